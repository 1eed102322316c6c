"""Routes and pages: `Site` draws templates, `Pages` adds routes, `Visit` is one request.

`Pages.post` verifies the CSRF token before its handler runs, a route with a `role` sends visitors
without a session to the sign-in page, and a `TriptychError` that a handler does not catch becomes
a page, or a message near what was clicked. Left out: what any page shows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from triptych.errors import Forbidden, TierError, TooLarge, TriptychError, Unauthenticated
from triptych.formatting import format_bytes, format_count, format_duration
from triptych.panels.gateway_client import GatewayClient
from triptych.panels.web import assets
from triptych.panels.web.glossary import TERMS
from triptych.panels.web.navigation import LINKS
from triptych.panels.web.security import COOKIE, FIELD, HEADERS, Csrf

PANELS = Path(__file__).resolve().parents[1]
#: Each role may do what those after it may.
ROLES = ("admin", "company_admin", "user")
#: Most bytes of a form without files.
FORM_BYTES = 8 * 2**20
Handler = Callable[["Visit"], Awaitable[Response]]


class SignedIn(Protocol):
    """What a page needs to know of a session."""

    @property
    def name(self) -> str:
        """Return the user's name."""

    @property
    def role(self) -> str:
        """Return one of `ROLES`."""

    @property
    def key(self) -> str:
        """Return the user's key for the gateway."""


class Sessions(Protocol):
    """Reads the session of a request's cookies."""

    gateway: str

    def session(self, cookies: Mapping[str, str]) -> SignedIn | None:
        """Return the session in these cookies; None where there is none."""


class Site:
    """Draws the templates of every page below `triptych/panels`.

    `key` is a secret of this installation, from which CSRF tokens are made.
    """

    def __init__(self, sessions: Sessions, key: bytes) -> None:
        self.sessions = sessions
        self.csrf = Csrf(key)
        self.templates = Environment(
            loader=FileSystemLoader(PANELS),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.globals.update(
            asset=assets.address, links=LINKS, terms=TERMS, csrf_field=FIELD
        )
        self.templates.filters.update(
            count=format_count, duration=format_duration, size=format_bytes
        )

    def routes(self) -> list[Route]:
        """Return the routes of the files that pages load."""
        return [Route("/static/{name:path}", assets.serve, methods=["GET"])]


@dataclass
class Visit:
    """One request of a page: its session, its form (verified), and the gateway in its name."""

    site: Site
    request: Request
    session: SignedIn | None
    form: FormData = field(default_factory=FormData)

    def __post_init__(self) -> None:
        self._cookie = self.site.csrf.visit(self.request.cookies)

    @property
    def path(self) -> dict[str, Any]:
        """Return the parameters of the route."""
        return self.request.path_params

    @property
    def query(self) -> dict[str, str]:
        """Return the query string."""
        return dict(self.request.query_params)

    @property
    def by_htmx(self) -> bool:
        """Return whether only a fragment is wanted."""
        return self.request.headers.get("hx-request") == "true"

    @property
    def gateway(self) -> GatewayClient:
        """Return a client of the gateway with this visitor's key."""
        return GatewayClient(self.site.sessions.gateway, self.session.key if self.session else "")

    def render(self, template: str, *, fragment: str = "", **context: Any) -> str:
        """Return a template as HTML, or one block of it; `parts` holds the macros of every page."""
        drawn = self.site.templates.get_template(template)
        values: dict[str, Any] = {
            "here": self.request.url.path,
            "session": self.session,
            "csrf": self.site.csrf.token(self._cookie),
            **context,
        }
        # A block that is drawn alone does not see the imports of its template.
        macros = self.site.templates.get_template("web/templates/parts.html")
        values["parts"] = macros.make_module(values)
        if not fragment:
            return drawn.render(values)
        return "".join(drawn.blocks[fragment](drawn.new_context(values)))

    def page(
        self, template: str, *, fragment: str = "", status: int = 200, **context: Any
    ) -> Response:
        """Answer with a page; htmx receives the block `fragment` of it only."""
        part = fragment if self.by_htmx else ""
        return self.html(self.render(template, fragment=part, **context), status)

    def html(self, text: str, status: int = 200) -> Response:
        """Answer with HTML under the strict content security policy."""
        answer = HTMLResponse(text, status, headers=dict(HEADERS))
        answer.headers["vary"] = "hx-request"
        if self.request.cookies.get(COOKIE) != self._cookie:
            answer.set_cookie(
                COOKIE, self._cookie, httponly=True, samesite="strict",
                secure=self.request.url.scheme == "https",
            )  # fmt: skip
        return answer

    def go(self, address: str) -> Response:
        """Answer with another page of this site to go to."""
        if self.by_htmx:
            return Response(status_code=204, headers={"hx-redirect": address})
        return RedirectResponse(address, 303)

    def trouble(self, error: TriptychError) -> Response:
        """Answer with what went wrong and what to do next."""
        status = error.status if isinstance(error, TierError) else 400
        return self.page("web/templates/error.html", fragment="trouble", status=status, error=error)


class Pages:
    """Adds the routes of one part of the site."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.routes: list[Route] = []

    def get(self, path: str, *, role: str = "") -> Callable[[Handler], Handler]:
        """Add a page; with a `role` only for visitors with it, or one that may do more."""
        return self._add(path, "GET", role)

    def post(
        self, path: str, *, role: str = "", limit_bytes: int = FORM_BYTES
    ) -> Callable[[Handler], Handler]:
        """Add what a form does, after its size and its CSRF token were verified."""
        return self._add(path, "POST", role, limit_bytes)

    def _add(
        self, path: str, method: str, role: str, limit_bytes: int = FORM_BYTES
    ) -> Callable[[Handler], Handler]:
        def added(handler: Handler) -> Handler:
            async def endpoint(request: Request) -> Response:
                visit = Visit(self.site, request, self.site.sessions.session(request.cookies))
                try:
                    if role and visit.session is None:
                        return visit.go(_sign_in(request))
                    if role:
                        require(visit, role)
                    if method == "POST":
                        _check_size(request, limit_bytes)
                        visit.form = await request.form()
                        self._verify(visit)
                    return await handler(visit)
                except Unauthenticated:  # the session's key was revoked, or has expired
                    return visit.go(_sign_in(request))
                except TriptychError as error:
                    return visit.trouble(error)

            self.routes.append(Route(path, endpoint, methods=[method], name=handler.__name__))
            return handler

        return added

    def _verify(self, visit: Visit) -> None:
        token = str(visit.form.get(FIELD, ""))
        if not self.site.csrf.verify(visit.request.cookies, token):
            raise Forbidden(
                "this form is too old, or was sent from another site",
                hint="reload the page and send it again", code="csrf",
            )  # fmt: skip


def require(visit: Visit, role: str) -> None:
    """Refuse a visitor who may do less than `role`.

    Raises: Forbidden.
    """
    has = visit.session.role if visit.session else ""
    if has not in ROLES[: ROLES.index(role) + 1]:
        words = role.replace("_", " ")
        raise Forbidden(f"this page is for the role {words}", hint="sign in with another key")


def _check_size(request: Request, limit_bytes: int) -> None:
    """Refuse a form before any of it is read, by the length that a browser always sends."""
    announced = request.headers.get("content-length", "")
    if not announced.isdigit() or int(announced) > limit_bytes:
        raise TooLarge(f"this is too large: {format_bytes(limit_bytes)} are allowed at once")


def _sign_in(request: Request) -> str:
    then = request.url.path if request.method == "GET" else "/"
    return f"/sign-in?then={quote(then, safe='/')}"
