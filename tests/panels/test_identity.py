"""Cookies that open only here, addresses that stay here, and a gate that lets nobody past."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from triptych.panels.origin_check import OriginCheck
from triptych.panels.sign_in.identity import SESSION, Session, SignIn, SignInRequired
from triptych.panels.sign_in.routes import inside, routes
from triptych.panels.web.site import Site


@pytest.fixture
def sign_in(tmp_path: Path) -> SignIn:
    return SignIn("http://127.0.0.1:9", "http://127.0.0.1:9", "", tmp_path / "cookie.key")


@pytest.fixture
def visitor(sign_in: SignIn) -> TestClient:
    app = FastAPI()
    app.router.routes.extend(routes(Site(sign_in, sign_in.key), sign_in))

    @app.post("/change")
    async def change(request: Request) -> str:
        return str(request.scope["signed_in"].name)

    @app.get("/health")
    async def health() -> str:
        return "ok"

    app.add_middleware(SignInRequired, sign_in=sign_in)
    app.add_middleware(OriginCheck)
    return TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)


def sealed(sign_in: SignIn, session: Session) -> str:
    import json

    return sign_in._seal.encrypt(json.dumps(vars(session)).encode()).decode()


def test_a_gate_sends_people_to_the_door_and_programs_away(visitor: TestClient) -> None:
    sent = visitor.get("/studio/", headers={"accept": "text/html"})
    assert (sent.status_code, sent.headers["location"]) == (303, "/sign-in?then=/studio/")
    assert visitor.post("/change").status_code == 401
    assert visitor.get("/health").status_code == 200
    assert "Your key" in visitor.get("/sign-in").text


def test_only_a_cookie_sealed_here_says_who_somebody_is(
    visitor: TestClient, sign_in: SignIn, tmp_path: Path
) -> None:
    session = Session("ann", "admin", "tri_secret")
    elsewhere = SignIn(sign_in.gateway, sign_in.hub, "", tmp_path / "other.key")
    for forged in ("", "nonsense", sealed(elsewhere, session)):
        visitor.cookies.set(SESSION, forged)
        assert visitor.post("/change").status_code == 401
    visitor.cookies.set(SESSION, sealed(sign_in, session))
    assert visitor.post("/change").json() == "ann"
    assert "tri_secret" not in sealed(sign_in, session)
    assert "tri_secret" not in repr(session)
    assert (tmp_path / "cookie.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:9999"},
    ],
)
def test_another_sites_page_changes_nothing_with_a_visitors_cookie(
    visitor: TestClient, sign_in: SignIn, headers: dict[str, str]
) -> None:
    visitor.cookies.set(SESSION, sealed(sign_in, Session("ann", "admin", "tri_secret")))
    assert visitor.post("/change", headers=headers).status_code == 403
    own = {"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1"}
    assert visitor.post("/change", headers=own).status_code == 200


@pytest.mark.parametrize(
    "then", ["https://elsewhere.example", "//elsewhere.example", "/\\elsewhere.example", "console"]
)
def test_signing_in_leads_nowhere_else(then: str) -> None:
    assert inside(then) == "/"
    assert inside("/console/") == "/console/"


def test_a_refused_key_keeps_one_at_the_door(visitor: TestClient) -> None:
    token = re.search(r'name="csrf" value="(\w+)"', visitor.get("/sign-in").text)
    assert token is not None
    typed = {"key": "tri_wrong", "then": "/console/", "csrf": token.group(1)}
    refused = visitor.post("/sign-in", data=typed)
    assert refused.status_code == 401
    assert "does not answer" in refused.text
    assert SESSION not in refused.cookies
