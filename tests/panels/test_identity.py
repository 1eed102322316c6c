"""Cookies that open only here, addresses that stay here, and a gate that lets nobody past."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from triptych.panels.guard import Guard
from triptych.panels.identity import PERSON, Doors, Gate, Person, _inside


@pytest.fixture
def doors(tmp_path: Path) -> Doors:
    return Doors("http://127.0.0.1:9", "http://127.0.0.1:9", "", tmp_path / "cookie.key")


@pytest.fixture
def visitor(doors: Doors) -> TestClient:
    app = FastAPI()
    app.include_router(doors.routes())

    @app.post("/change")
    async def change(request: Request) -> str:
        return str(request.scope["person"].name)

    @app.get("/health")
    async def health() -> str:
        return "ok"

    app.add_middleware(Gate, doors=doors)
    app.add_middleware(Guard)
    return TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)


def sealed(doors: Doors, person: Person) -> str:
    import json

    return doors._seal.encrypt(json.dumps(vars(person)).encode()).decode()


def test_a_gate_sends_people_to_the_door_and_programs_away(visitor: TestClient) -> None:
    sent = visitor.get("/studio/", headers={"accept": "text/html"})
    assert (sent.status_code, sent.headers["location"]) == (303, "/sign-in?then=/studio/")
    assert visitor.post("/change").status_code == 401
    assert visitor.get("/health").status_code == 200
    assert "Your key" in visitor.get("/sign-in").text


def test_only_a_cookie_sealed_here_says_who_somebody_is(
    visitor: TestClient, doors: Doors, tmp_path: Path
) -> None:
    person = Person("ann", "admin", "tri_secret")
    elsewhere = Doors(doors.gateway, doors.hub, "", tmp_path / "other.key")
    for forged in ("", "nonsense", sealed(elsewhere, person)):
        visitor.cookies.set(PERSON, forged)
        assert visitor.post("/change").status_code == 401
    visitor.cookies.set(PERSON, sealed(doors, person))
    assert visitor.post("/change").json() == "ann"
    assert "tri_secret" not in sealed(doors, person)
    assert "tri_secret" not in repr(person)
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
    visitor: TestClient, doors: Doors, headers: dict[str, str]
) -> None:
    visitor.cookies.set(PERSON, sealed(doors, Person("ann", "admin", "tri_secret")))
    assert visitor.post("/change", headers=headers).status_code == 403
    own = {"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1"}
    assert visitor.post("/change", headers=own).status_code == 200


@pytest.mark.parametrize(
    "then", ["https://elsewhere.example", "//elsewhere.example", "/\\elsewhere.example", "console"]
)
def test_signing_in_leads_nowhere_else(then: str) -> None:
    assert _inside(then) == "/"
    assert _inside("/console/") == "/console/"


def test_a_refused_key_keeps_one_at_the_door(visitor: TestClient) -> None:
    refused = visitor.post("/sign-in", data={"key": "tri_wrong", "then": "/console/"})
    assert refused.status_code == 401
    assert "does not answer" in refused.text
    assert PERSON not in refused.cookies
