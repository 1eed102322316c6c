"""Who may use a Space: every caller a public one, readers of the repository a private one.

Programs show a token (`x-hf-authorization`, as gradio_client does, or `Authorization`). People
come from the hub's page with a ticket in the address, which the proxy turns into a cookie.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import Headers

from triptych.errors import AccessDenied, HubRefused, RepositoryNotFound
from triptych.hub.server import tickets
from triptych.hub.server.repository import Repository
from triptych.hub.server.storage.hub import Hub
from triptych.hub.server.storage.identity.access import Level, level
from triptych.hub.server.storage.identity.tokens import Identity, authenticate
from triptych.hub.server.tickets import Ticket

PARAMETER = "__sign"
_PURPOSE = "space"


@dataclass(frozen=True)
class LetIn:
    """Describe an admitted request: whether the Space receives its Authorization header.

    `ticket` is one that came in the address and should move into a cookie.
    """

    keep_authorization: bool
    ticket: str = ""


def cookie_name(uid: str) -> str:
    """Return the name of the cookie that keeps a ticket; one per Space."""
    return f"triptych_ticket_{uid}"


def sign(hub: Hub, repository: Repository, account_id: int) -> str:
    """Return the query that lets a person into a private Space for a while."""
    until = int(time.time()) + hub.config.ticket_s
    ticket = tickets.issue(hub.vault, Ticket(_PURPOSE, repository.id, account_id, "", until))
    return f"{PARAMETER}={ticket}"


def let_in(hub: Hub, repository: Repository, headers: Headers, query: bytes) -> LetIn:
    """Decide about one request.

    Raises: RepositoryNotFound for who may not know of the Space.
    """
    in_address = dict(parse_qsl(query.decode("latin-1"))).get(PARAMETER, "")
    identity, is_hub_token = _identity(hub, headers)
    keep = not is_hub_token
    if level(identity, repository) >= Level.READ:
        return LetIn(keep, in_address if _fits(hub, repository, in_address) else "")
    if _fits(hub, repository, in_address):
        return LetIn(keep, in_address)
    if _fits(hub, repository, _cookie(headers, repository)) and not _from_elsewhere(headers):
        return LetIn(keep)
    raise RepositoryNotFound("Repository not found")


def _identity(hub: Hub, headers: Headers) -> tuple[Identity | None, bool]:
    """Return the caller, and whether the Authorization header is a token of this hub."""
    found: Identity | None = None
    for name in ("authorization", "x-hf-authorization"):
        scheme, _, token = headers.get(name, "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            continue
        try:
            found = authenticate(hub.database, token.strip())
        except AccessDenied:
            continue
        if name == "authorization":
            return found, True
    return found, False


def _from_elsewhere(headers: Headers) -> bool:
    """Return whether another page made a browser send this request with the ticket's cookie.

    Spaces on ports of one host are one site to a browser, so its cookie rules do not part them.
    """
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        return True
    site, mode = headers.get("sec-fetch-site"), headers.get("sec-fetch-mode")
    return site in ("same-site", "cross-site") and mode != "navigate"


def _fits(hub: Hub, repository: Repository, ticket: str) -> bool:
    if not ticket:
        return False
    try:
        return (
            tickets.check(hub.vault, ticket, frozenset([_PURPOSE])).repository_id == repository.id
        )
    except HubRefused:
        return False


def _cookie(headers: Headers, repository: Repository) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(cookie_name(repository.uid))
    except CookieError:
        return ""
    return morsel.value if morsel else ""
