"""The visitor of a page: the one user of this machine, or a signed-in user of a Space.

On a Space the hub identifies the user, and gives the application a token of theirs. That token
is used for what they publish; the token of the Space's owner never is. Left out: quotas
(`lm/runs/rights`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, HTTPException, Request

from triptych.config import environment
from triptych.config.environment import Secret
from triptych.errors import AccessDenied, ConfigError
from triptych.hub.client import Hub
from triptych.lm.runs.rights import LOCAL

SIGN_IN = "/login/huggingface"


@dataclass(frozen=True)
class Visitor:
    """A user of the page; without a name they may read, and start nothing."""

    user: str
    token: Secret | None = None

    @property
    def is_local(self) -> bool:
        """Return whether this is the machine's own user."""
        return self.user == LOCAL

    def hub(self) -> Hub:
        """Return a client of the hub with this visitor's token.

        Raises: AccessDenied for a visitor of a Space who has not signed in.
        """
        if self.is_local:
            return Hub()
        if not self.token:
            raise AccessDenied("you are not signed in", hint="sign in at the top of the page")
        return Hub(token=self.token.reveal())

    def require_name(self) -> None:
        """Refuse a visitor who has not signed in.

        Raises: AccessDenied.
        """
        if not self.user:
            raise AccessDenied("you are not signed in", hint="sign in at the top of the page")


def is_shared() -> bool:
    """Return whether this is a Space, where everybody signs in."""
    return environment.get("SPACE_ID") is not None


def attach_sign_in(app: FastAPI) -> None:
    """Let visitors of a Space sign in with the hub that runs it.

    Raises: ConfigError when the Space's card does not ask for it.
    """
    if not environment.get("OAUTH_CLIENT_ID"):
        raise ConfigError(
            "this Space has no sign-in, so no user could own a run",
            hint="write `hf_oauth: true` into the front matter of its README.md",
        )
    from gradio.oauth import attach_oauth

    attach_oauth(app)


def who(request: Any) -> Visitor:
    """Return the user who sent a request, of the page or of the API."""
    inner = getattr(request, "request", request)
    if session := inner.scope.get("signed_in"):
        # An admin acts as the local user; every other user for themselves.
        if session.role == "admin":
            return Visitor(LOCAL)
        return Visitor(f"hub/{session.name}", Secret(session.hub_token))
    if not is_shared():
        return Visitor(LOCAL)
    signed = inner.scope.get("session", {}).get("oauth_info") or {}
    name = str(signed.get("userinfo", {}).get("preferred_username") or "")
    # A person may not be called as the machine's own user is.
    return Visitor(f"hub/{name}" if name else "", Secret(signed.get("access_token") or ""))


async def identify(request: Request) -> str:
    """Name the caller of the API.

    Raises: HTTPException 401 for a caller who has not signed in.
    """
    visitor = who(request)
    if not visitor.user:
        raise HTTPException(401, f"sign in first: {SIGN_IN}")
    return visitor.user
