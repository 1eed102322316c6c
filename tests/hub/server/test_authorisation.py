"""Every route against every kind of token: the matrix is generated from the declarations.

Handlers are replaced by one that only says that the call was let in, so the whole table runs
without side effects and a route added tomorrow is in it by itself.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import Response

from triptych.config.hub import HubConfig
from triptych.hub.server import tickets
from triptych.hub.server.http.app import declared, routed
from triptych.hub.server.http.call import Access, Call, Declared, Services
from triptych.hub.server.http.middleware import RawPath
from triptych.hub.server.http.routing import as_routes
from triptych.hub.server.jobs.runner import Jobs
from triptych.hub.server.repositories import catalog
from triptych.hub.server.repositories.lifecycle import create
from triptych.hub.server.repository import KINDS
from triptych.hub.server.spaces.runner import Spaces
from triptych.hub.server.storage.hub import Hub, ensure_admin
from triptych.hub.server.storage.identity.accounts import create_account
from triptych.hub.server.storage.identity.tokens import create_token
from triptych.hub.server.tickets import Ticket

IN = 299
ROUTES = declared()
REPOSITORY_RULES = (Access.SEE, Access.READ, Access.WRITE, Access.MANAGE)


async def let_in(call: Call) -> Response:
    return Response(status_code=IN)


class World:
    """A hub with an owner, a stranger, an administrator and repositories of every kind."""

    def __init__(self, root: Path) -> None:
        self.hub = Hub(HubConfig(root=str(root)))
        database = self.hub.database
        admin = ensure_admin(self.hub)
        owner = create_account(database, "owner")
        stranger = create_account(database, "stranger")
        self.tokens: dict[str, str | None] = {
            "none": None,
            "bad": "hf_forged",
            "read": create_token(database, owner, "r", "read"),
            "write": create_token(database, owner, "w", "write"),
            "other": create_token(database, stranger, "w", "write"),
            "admin": create_token(database, admin, "matrix", "write"),
        }
        from triptych.hub.server.storage.identity.tokens import authenticate

        token = self.tokens["write"]
        assert token is not None
        identity = authenticate(database, token)
        for kind in KINDS:
            for name in ("open", "hidden"):
                create(self.hub, identity, owner, kind=kind, name=name, private=name == "hidden")
        hidden = {k: catalog.find(database, k, "owner", "hidden") for k in KINDS}
        grants = {found.id: "read" for found in hidden.values() if found}
        self.tokens["fine"] = create_token(database, owner, "f", "fineGrained", grants=grants)
        writing = {found.id: "write" for found in hidden.values() if found}
        self.tokens["fine-write"] = create_token(
            database, owner, "fw", "fineGrained", grants=writing
        )
        stubs = [dataclasses.replace(one, handler=let_in) for one in ROUTES]
        self.services = Services(self.hub, Spaces(self.hub), Jobs(self.hub))
        self.app = RawPath(Starlette(routes=as_routes(stubs, self.services)), self.services)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = World(tmp_path_factory.mktemp("matrix"))
    yield made
    made.hub.close()


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(world.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", timeout=60) as made:
        yield made


def fill(path: str, name: str, namespace: str = "owner") -> str:
    values = {"namespace": namespace, "name": name, "revision": "main", "path": "README.md"}
    return re.sub(r"\{(\w+)(:\w+)?\}", lambda m: values.get(m[1], "x"), path)


def expected(access: Access, token: str, *, private: bool) -> int:
    """Say what a route must answer; `IN` stands for being let in."""
    if access is Access.ANONYMOUS:
        return IN
    if token == "bad":
        return 401
    if access is Access.PUBLIC:
        return IN
    if token == "none":
        return 401 if private or access not in (Access.SEE, Access.READ) else IN
    if access is Access.SIGNED_IN:
        return IN
    if private and token == "other":
        return 404
    if access is Access.SITE_ADMIN:
        return IN if token == "admin" else 403
    allowed = {
        Access.SEE: {"read", "write", "admin", "fine", "fine-write"},
        Access.READ: {"read", "write", "admin", "fine", "fine-write"},
        Access.WRITE: {"write", "admin"} | ({"fine-write"} if private else set()),
        Access.MANAGE: {"write", "admin"},
    }[access]
    if not private and access in (Access.SEE, Access.READ):
        return IN
    return IN if token in allowed else 403


def send(client: httpx.AsyncClient, route: Declared, path: str, token: str | None) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return client.request(route.method, path, headers=headers)


def label(route: Declared) -> str:
    return f"{route.method} {route.path}"


@pytest.mark.parametrize("token", ["none", "bad", "read", "write", "other", "admin", "fine",
                                   "fine-write"])  # fmt: skip
async def test_every_route_lets_in_whom_its_rule_names(
    world: World, client: httpx.AsyncClient, token: str
) -> None:
    wrong = []
    for route in ROUTES:
        if route.access is Access.TICKET:
            continue
        for name in ("open", "hidden"):
            answer = await send(client, route, fill(route.path, name), world.tokens[token])
            private = name == "hidden" and "{name}" in route.path
            wanted = expected(route.access, token, private=private)
            if answer.status_code != wanted:
                wrong.append(f"{label(route)} on {name}: {answer.status_code}, not {wanted}")
    assert not wrong, "\n".join(wrong)


async def test_hidden_and_absent_are_the_same_answer(
    world: World, client: httpx.AsyncClient
) -> None:
    wrong = []
    for route in ROUTES:
        if route.access not in REPOSITORY_RULES:
            continue
        for token in ("none", "other"):
            answers = []
            for name in ("hidden", "absent"):
                answer = await send(client, route, fill(route.path, name), world.tokens[token])
                answers.append((answer.status_code, dict(answer.headers), answer.content))
            if answers[0] != answers[1]:
                wrong.append(f"{label(route)} for {token}: {answers}")
    assert not wrong, "\n".join(wrong)


async def test_signed_addresses_open_only_what_they_were_made_for(
    world: World, client: httpx.AsyncClient
) -> None:
    for route in ROUTES:
        if route.access is not Access.TICKET:
            continue
        path = fill(route.path, "open")
        soon = int(time.time()) + 60
        for purpose, until, wanted in [
            (next(iter(route.purposes)), soon, IN),
            (next(iter(route.purposes)), soon - 100, 401),
            ("another", soon, 401),
        ]:
            shown = tickets.issue(world.hub.vault, Ticket(purpose, 1, 1, "", until))
            answer = await client.request(route.method, path, params={"ticket": shown})
            assert answer.status_code == wanted, label(route)
        for forged in ("", "AAAA", shown[:-2], "A" + shown[1:], "é"):
            answer = await client.request(route.method, path, params={"ticket": forged})
            assert answer.status_code == 401, label(route)
        assert (await send(client, route, path, world.tokens["admin"])).status_code == 401


def test_nothing_is_served_without_a_rule(world: World) -> None:
    routes: list[Any] = list(routed(world.services).routes)
    served = {(route.path, method) for route in routes for method in route.methods - {"HEAD"}}
    assert served == {(one.path, one.method) for one in ROUTES}
    assert len(routes) == len(ROUTES)


def test_a_ticket_route_must_name_a_purpose() -> None:
    for route in ROUTES:
        assert (route.access is Access.TICKET) == bool(route.purposes), label(route)


def test_repository_rules_stand_on_routes_that_name_a_repository() -> None:
    for route in ROUTES:
        named = "{namespace" in route.path and "{name}" in route.path
        if route.access in REPOSITORY_RULES:
            assert named, label(route)
        elif named and route.access is not Access.SITE_ADMIN:
            pytest.fail(f"{label(route)} names a repository but asks for no right to it")
