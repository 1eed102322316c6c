"""One identity for every application: OpenID Connect as Gradio's sign-in button speaks it."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Iterator
from html import unescape
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from triptych.hub.server.repositories import catalog
from triptych.hub.server.storage.identity.oauth import register_client, space_credentials
from triptych.hub.server.storage.identity.tokens import create_token

if TYPE_CHECKING:
    from tests.hub.server.conftest import RunningHub

RETURN = "http://127.0.0.1:9/login/callback"


class Browser:
    """A person's browser: cookies, forms, no redirects followed."""

    def __init__(self, hub: RunningHub) -> None:
        self.http = httpx.Client(base_url=hub.url, timeout=60)

    def sign_in(self, token: str) -> httpx.Response:
        return self.http.post("/login", data={"token": token, "next": "/"})

    def send_form(self, page: httpx.Response, **more: str) -> httpx.Response:
        fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', page.text)
        data = {name: unescape(value) for name, value in fields} | more
        return self.http.post(urlsplit(str(page.url)).path, data=data)


@pytest.fixture
def browser(hub: RunningHub) -> Iterator[Browser]:
    made = Browser(hub)
    yield made
    made.http.close()


@pytest.fixture
def client(hub: RunningHub) -> tuple[str, str]:
    name = f"app-{secrets.token_hex(3)}"
    client_id, secret = register_client(hub.hub.database, name, [RETURN], public=False)
    assert secret is not None
    return client_id, secret


def wish(client_id: str, **more: str) -> dict[str, str]:
    return {
        "client_id": client_id, "redirect_uri": RETURN, "response_type": "code",
        "scope": "openid profile read-repos", "state": "s1", "nonce": "n1",
    } | more  # fmt: skip


def code_for(browser: Browser, fields: dict[str, str]) -> str:
    page = browser.http.get("/oauth/authorize", params=fields)
    assert page.status_code == 200, page.text
    back = browser.send_form(page, answer="yes")
    assert back.status_code == 303
    query = parse_qs(urlsplit(back.headers["location"]).query)
    assert query["state"] == ["s1"]
    return query["code"][0]


def test_an_application_learns_who_signed_in(
    hub: RunningHub, browser: Browser, client: tuple[str, str]
) -> None:
    from joserfc import jwt
    from joserfc.jwk import KeySet

    user, token = hub.user()
    hub.api(token).create_repo(f"{user.name}/own", private=True)
    found = httpx.get(f"{hub.url}/.well-known/openid-configuration", timeout=60).json()
    sent = browser.http.get("/oauth/authorize", params=wish(client[0]))
    assert sent.status_code == 303 and sent.headers["location"].startswith("/login?next=")
    assert browser.sign_in(token).status_code == 303
    code = code_for(browser, wish(client[0]))
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": RETURN}
    answer = httpx.post(found["token_endpoint"], data=form, auth=client, timeout=60).json()
    keys = KeySet.import_key_set(httpx.get(found["jwks_uri"], timeout=60).json())
    claims = jwt.decode(answer["id_token"], keys, algorithms=["ES256"]).claims
    assert claims["preferred_username"] == user.name
    assert (claims["aud"], claims["nonce"], claims["iss"]) == (client[0], "n1", hub.url)
    headers = {"Authorization": f"Bearer {answer['access_token']}"}
    who = httpx.get(found["userinfo_endpoint"], headers=headers, timeout=60).json()
    assert who["preferred_username"] == user.name
    reader = hub.api(answer["access_token"])
    assert reader.model_info(f"{user.name}/own").private
    refused = httpx.post(
        f"{hub.url}/api/repos/create", json={"name": "x"}, headers=headers, timeout=60
    )
    assert refused.status_code == 403
    again = httpx.post(found["token_endpoint"], data=form, auth=client, timeout=60)
    assert (again.status_code, again.json()) == (400, {"error": "invalid_grant"})
    # Agreed once, the person is sent straight back the next time.
    assert browser.http.get("/oauth/authorize", params=wish(client[0])).status_code == 303


def test_a_wrong_secret_address_or_proof_gets_no_token(
    hub: RunningHub, browser: Browser, client: tuple[str, str]
) -> None:
    _, token = hub.user()
    browser.sign_in(token)
    elsewhere = wish(client[0], redirect_uri="https://elsewhere.example/")
    assert browser.http.get("/oauth/authorize", params=elsewhere).status_code == 400
    assert browser.http.get("/oauth/authorize", params=wish("unknown")).status_code == 400
    verifier = secrets.token_urlsafe(32)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    proof = {"code_challenge": challenge.decode(), "code_challenge_method": "S256"}

    asked = wish(client[0], scope="openid", **proof)
    code_for(browser, asked)

    def redeem(auth: tuple[str, str], **more: str) -> int:
        back = browser.http.get("/oauth/authorize", params=asked)
        code = parse_qs(urlsplit(back.headers["location"]).query)["code"][0]
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": RETURN,
            "code_verifier": verifier,
        }  # fmt: skip
        return httpx.post(
            f"{hub.url}/oauth/token", data=form | more, auth=auth, timeout=60
        ).status_code

    assert redeem((client[0], "wrong")) == 401
    assert redeem(client, code_verifier="x" * 43) == 400
    assert redeem(client, redirect_uri=RETURN + "x") == 400
    assert redeem(client, code="x") == 400
    assert redeem(client) == 200


def test_nobody_hands_on_more_than_they_have(
    hub: RunningHub, browser: Browser, client: tuple[str, str]
) -> None:
    """Signed in with a reading token, a person cannot make an application write."""
    user, _ = hub.user()
    reader = create_token(hub.hub.database, user, "reader", "read")
    browser.sign_in(reader)
    code = code_for(browser, wish(client[0], scope="openid read-repos write-repos"))
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": RETURN}
    answer = httpx.post(f"{hub.url}/oauth/token", data=form, auth=client, timeout=60).json()
    assert answer["scope"] == "openid read-repos"
    who = hub.api(answer["access_token"]).whoami()
    assert who["auth"]["accessToken"]["role"] == "read"
    page = browser.http.get("/settings/tokens")
    assert browser.send_form(page, name="more", role="write", revoke="").status_code == 403


def test_a_form_from_elsewhere_is_refused(
    hub: RunningHub, browser: Browser, client: tuple[str, str]
) -> None:
    _, token = hub.user()
    browser.sign_in(token)
    forged = browser.http.post(
        "/oauth/authorize", data=wish(client[0]) | {"answer": "yes", "form_token": "0" * 64}
    )
    assert forged.status_code == 403
    made = browser.http.post("/settings/tokens", data={"name": "x", "role": "write"})
    assert made.status_code == 403


def test_the_cookie_opens_pages_and_not_the_programming_interface(
    hub: RunningHub, browser: Browser
) -> None:
    user, token = hub.user()
    hub.api(token).create_repo(f"{user.name}/own", private=True)
    assert browser.http.get(f"/{user.name}/own").status_code == 401
    browser.sign_in(token)
    cookie = browser.http.cookies.jar
    assert all(item.has_nonstandard_attr("HttpOnly") for item in cookie)
    assert browser.http.get(f"/{user.name}/own").status_code == 200
    assert browser.http.get(f"/api/models/{user.name}/own").status_code == 401
    page = browser.http.get("/settings/tokens")
    assert token not in page.text
    fresh = browser.send_form(page, name="second", role="read", revoke="")
    shown = re.search(r'class="token">(hf_\w+)<', fresh.text)
    assert shown and hub.api(shown[1]).whoami()["name"] == user.name
    revoked = browser.send_form(page, revoke="second")
    assert revoked.status_code == 303
    signed_out = browser.http.post("/logout", data={"form_token": form_token(page)})
    assert signed_out.status_code == 303
    assert browser.http.get(f"/{user.name}/own").status_code == 401


def test_sign_in_never_sends_people_elsewhere(hub: RunningHub, browser: Browser) -> None:
    for address in ("//evil.example", "https://evil.example", "/\\evil.example"):
        answer = browser.http.post("/login", data={"token": hub.admin_token, "next": address})
        assert answer.headers["location"] == "/"
        page = browser.http.get(f"/login?{urlencode({'next': address})}")
        assert "evil" not in page.text


def test_a_space_signs_people_in_at_its_own_address_only(hub: RunningHub, browser: Browser) -> None:
    api = hub.api()
    api.create_repo("admin/app", repo_type="space", space_sdk="gradio")
    space = catalog.find(hub.hub.database, "space", "admin", "app")
    assert space is not None
    client_id, secret = space_credentials(hub.hub.vault, space)
    address = _address_of(hub, space)
    # Gradio always says https; the browser is sent to where the Space really is.
    asked = address.replace("http://", "https://") + "/login/callback?_target_url=%2F"
    browser.sign_in(hub.admin_token)
    page = browser.http.get("/oauth/authorize", params=wish(client_id, redirect_uri=asked))
    back = browser.send_form(page, answer="yes")
    location = back.headers["location"]
    assert location.startswith(f"{address}/login/callback?_target_url=")
    code = parse_qs(urlsplit(location).query)["code"][0]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": asked}
    answer = httpx.post(f"{hub.url}/oauth/token", data=form, auth=(client_id, secret), timeout=60)
    assert answer.status_code == 200
    other = wish(client_id, redirect_uri="http://127.0.0.1:1/login/callback")
    assert browser.http.get("/oauth/authorize", params=other).status_code == 400


def _address_of(hub: RunningHub, space: catalog.Repository) -> str:
    deadline = time.monotonic() + 90
    while (address := hub.services.spaces.address(space, hub.url)).endswith(":0"):
        assert time.monotonic() < deadline, "the Space got no address"
        time.sleep(0.02)
    return str(address)


def form_token(page: Any) -> str:
    found = re.search(r'name="form_token" value="(\w+)"', page.text)
    assert found
    return found[1]
