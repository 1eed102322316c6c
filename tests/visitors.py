"""People who visit a shared Space: what the hub tells an application about itself and them."""

from __future__ import annotations

import base64
import hashlib
import json

import itsdangerous
import pytest

OWNER, SECRET = "hf_token-of-the-owner", "secret-of-the-space"


def become_space(patch: pytest.MonkeyPatch, hub: str = "http://127.0.0.1:9") -> None:
    """Set the variables a hub gives to a Space whose visitors sign in."""
    import gradio.oauth

    patch.setenv("SPACE_ID", "owner/studio")
    patch.setenv("SYSTEM", "spaces")
    patch.setenv("HF_TOKEN", OWNER)
    for name, value in {
        "OAUTH_CLIENT_ID": "client",
        "OAUTH_CLIENT_SECRET": SECRET,
        "OAUTH_SCOPES": "openid profile",
        "OPENID_PROVIDER_URL": hub,
    }.items():
        patch.setenv(name, value)
        patch.setattr(gradio.oauth, name, value)


def token_of(user: str) -> str:
    """Give the token that the hub handed out for somebody."""
    return f"hf_token-of-visitor-{user}"


def cookie_of(user: str) -> dict[str, str]:
    """Sign a session as the application does after a visitor came back from the hub."""
    info = {"userinfo": {"preferred_username": user}, "access_token": token_of(user)}
    key = hashlib.sha256(f"{SECRET}-v4".encode()).hexdigest()
    data = base64.b64encode(json.dumps({"oauth_info": info}).encode())
    return {"session": itsdangerous.TimestampSigner(key).sign(data).decode()}
