"""Who may read: the groups of each source, and the groups of each member.

A change acts on the next question; nothing is read again.
"""

from __future__ import annotations

from pydantic import BaseModel
from pydantic import Field as Limits
from starlette.responses import Response
from starlette.routing import Route

from triptych.errors import InvalidQuery, TriptychError
from triptych.learning.company.library import EVERYONE
from triptych.learning.company.store import Store
from triptych.panels.console.knowledge.place import COMPANY, Place
from triptych.panels.web.forms import Field, Form, FormSpec
from triptych.panels.web.site import Pages, Site, Visit
from triptych.panels.web.tables import Row, Table


class Readers(BaseModel):
    """Which groups may read a source."""

    source: str = Limits(min_length=1)
    groups: str = Limits(default="", max_length=1000)


class Member(BaseModel):
    """Which groups a member belongs to."""

    user: str = Limits(min_length=1, max_length=64)
    groups: str = Limits(default="", max_length=1000)


READERS = FormSpec(
    Readers,
    (
        Field("source", "Source", "pick"),
        Field("groups", "Groups that may read it",
              hint="Separated by commas. `everyone` is every member; empty: administrators only."),
    ),
)  # fmt: skip
MEMBER = FormSpec(
    Member,
    (
        Field("user", "Member", "pick"),
        Field("groups", "Groups", hint="Separated by commas, besides `everyone`; empty: no other."),
    ),
)


def routes(site: Site, place: Place) -> list[Route]:
    """Return the routes of rights."""
    pages = Pages(site)

    @pages.get(COMPANY + "/rights", role="company_admin")
    async def rights(visit: Visit) -> Response:
        return await _page(visit, place)

    @pages.post(COMPANY + "/rights/source", role="company_admin")
    async def set_readers(visit: Visit) -> Response:
        at, form = await place.at(visit), READERS.read(visit.form)
        value = form.value
        if value is not None:

            def change(store: Store) -> None:
                sources = store.sources()
                if value.source not in sources:
                    raise InvalidQuery("there is no such source", param="source")
                store.set_source(value.source, sources[value.source][0], groups_of(value.groups))

            try:
                await place.store(at.company, change)
                form = READERS.empty(status=f"Readers of {value.source} saved")
            except TriptychError as error:
                form = form.refused(error)
        return await _page(visit, place, readers=form)

    @pages.post(COMPANY + "/rights/member", role="company_admin")
    async def set_member(visit: Visit) -> Response:
        at, form = await place.at(visit), MEMBER.read(visit.form)
        value = form.value
        if value is not None:
            groups = [one for one in groups_of(value.groups) if one != EVERYONE]
            await place.store(at.company, lambda store: store.set_reader(value.user, groups))
            form = MEMBER.empty(status=f"Groups of {value.user} saved")
        return await _page(visit, place, member=form)

    return pages.routes


def groups_of(text: str) -> list[str]:
    """Return the groups of a list that is separated by commas."""
    return sorted({one.strip() for one in text.split(",") if one.strip()})


async def _page(
    visit: Visit, place: Place, readers: Form[Readers] | None = None,
    member: Form[Member] | None = None,
) -> Response:  # fmt: skip
    at = await place.at(visit)
    users = list(at.accounts.users)
    if at.accounts.is_admin:
        found = await visit.gateway.ask("GET", f"/api/companies/{at.company}/members")
        users = [row["user_id"] for row in found["members"]]

    def read(store: Store) -> tuple[dict[str, tuple[str, ...]], dict[str, list[str]]]:
        sources = {name: groups for name, (_, groups) in store.sources().items()}
        return sources, {user: sorted(store.groups_of(user)) for user in users}

    sources, members = await place.store(at.company, read) or ({}, {})
    readers, member = readers or READERS.empty(), member or MEMBER.empty()
    return visit.page(
        "console/knowledge/rights.html", fragment="rights", at=at, tab="rights",
        status=max(readers.http_status, member.http_status), there=bool(sources),
        sources=_table("Sources", "Source", "Read by", sources, "administrators only"),
        members=_table("Members", "Member", "Groups", members, EVERYONE),
        readers=readers.with_choices(source=[(name, name) for name in sources]),
        member=member.with_choices(user=[(name, name) for name in users]),
    )  # fmt: skip


def _table(
    caption: str, name: str, groups: str, found: dict[str, tuple[str, ...]] | dict[str, list[str]],
    none: str,
) -> Table:  # fmt: skip
    rows = tuple(Row((one, ", ".join(listed) or none)) for one, listed in found.items())
    return Table(caption, (name, groups), rows, empty="None yet.")
