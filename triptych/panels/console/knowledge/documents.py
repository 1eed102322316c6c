"""Documents: upload, look at the changes, apply them with progress, and read one at the words."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pydantic import BaseModel
from pydantic import Field as Limits
from starlette.responses import Response
from starlette.routing import Route

from triptych.config.panels import PanelsConfig
from triptych.errors import InvalidQuery, LearningError, NotFound, TierError, TriptychError
from triptych.learning.company.library import EVERYONE
from triptych.learning.company.store import Store
from triptych.learning.company.sync import Diff, compare
from triptych.learning.company.tables import Stored
from triptych.panels.console.accounts import read_accounts
from triptych.panels.console.knowledge import uploads, view
from triptych.panels.console.knowledge.place import COMPANY, PATH, UPLOADS, At, Place
from triptych.panels.web.forms import Field, Form, FormSpec
from triptych.panels.web.notices import Notice
from triptych.panels.web.site import Pages, Site, Visit
from triptych.wire.evidence import SourceText

UPLOAD_BYTES = PanelsConfig().upload_bytes
#: Characters of a document that are shown before and after the words.
SHOWN = 60_000


class NewSource(BaseModel):
    """A folder on this machine to add."""

    folder: str = Limits(min_length=1)
    source: str = Limits(default="", max_length=64, pattern=r"^[\w.-]*$")


SOURCE = FormSpec(
    NewSource,
    (
        Field("folder", "Folder on this machine", placeholder="/srv/handbook"),
        Field("source", "Name of the source", hint="Empty: the folder's name"),
    ),
)


def routes(site: Site, place: Place) -> list[Route]:
    """Return the routes of documents."""
    pages = Pages(site)

    @pages.get(PATH, role="company_admin")
    async def knowledge(visit: Visit) -> Response:
        return await _companies(visit, place)

    @pages.get(COMPANY, role="company_admin")
    async def company_documents(visit: Visit) -> Response:
        return await _page(visit, place)

    @pages.post(COMPANY + "/upload", role="company_admin", limit_bytes=UPLOAD_BYTES)
    async def upload(visit: Visit) -> Response:
        return await _upload(visit, place)

    @pages.post(COMPANY + "/sources", role="admin")
    async def add_source(visit: Visit) -> Response:
        at = await place.at(visit)
        form = SOURCE.read(visit.form)
        if form.value is not None:
            try:
                source = await _add_source(place, at, form.value)
                return await _changes(visit, place, at, source)
            except TriptychError as error:
                form = form.refused(error)
        return await _page(visit, place, form=form)

    @pages.post(COMPANY + "/compare", role="company_admin")
    async def compare_source(visit: Visit) -> Response:
        at = await place.at(visit)
        return await _changes(visit, place, at, str(visit.form.get("source", "")))

    @pages.post(COMPANY + "/apply", role="company_admin")
    async def apply(visit: Visit) -> Response:
        at = await place.at(visit)
        source = str(visit.form.get("source", ""))
        place.start(at.company, source, await _location(place, at, source))
        await _switch_on(visit, at)
        return await _page(visit, place)

    @pages.post(COMPANY + "/switch-on", role="admin")
    async def switch_on(visit: Visit) -> Response:
        at = await place.at(visit)
        await _switch_on(visit, at)
        return await _page(visit, place, Notice(f"Members of {at.name} may ask the company tier"))

    @pages.get(COMPANY + "/documents/{document:int}", role="company_admin")
    async def document(visit: Visit) -> Response:
        return await _document(visit, place)

    return pages.routes


async def _companies(visit: Visit, place: Place) -> Response:
    accounts = await read_accounts(visit)
    if len(accounts.companies) == 1:
        return visit.go(f"{PATH}/{next(iter(accounts.companies))}")
    table = await place.library(lambda one: view.companies(one, accounts.companies))
    return visit.page("console/knowledge/companies.html", table=table, accounts=accounts)


async def _upload(visit: Visit, place: Place) -> Response:
    at = await place.at(visit)
    files = uploads.files_of(visit.form)
    if not files:
        return await _page(visit, place, Notice("No file was chosen", bad=True))
    try:
        folder = await place.uploads(at.company)
        await asyncio.to_thread(uploads.write, folder, files)
    except TriptychError as error:
        return await _page(visit, place, Notice.of(error))
    return await _changes(visit, place, at, UPLOADS)


async def _page(
    visit: Visit, place: Place, notice: Notice | None = None, diff: Diff | None = None,
    source: str = "", form: Form[NewSource] | None = None,
) -> Response:  # fmt: skip
    at = await place.at(visit)
    state = visit.query.get("state", "")
    found = await place.store(at.company, lambda store: view.knowledge(store, state))
    form = form or SOURCE.empty()
    return visit.page(
        "console/knowledge/documents.html", fragment="documents", at=at, tab="documents",
        knowledge=found, syncing=place.syncs.get(at.company), notice=notice or Notice(),
        diff=diff, changes=view.changes(diff) if diff else [], source=source, form=form,
        state=state, status=form.http_status, is_on=await _is_on(visit, at),
        most=UPLOAD_BYTES,
    )  # fmt: skip


async def _changes(visit: Visit, place: Place, at: At, source: str) -> Response:
    try:
        location = await _location(place, at, source)
        diff = await place.store(at.company, lambda store: compare(store, source, location))
    except TriptychError as error:
        return await _page(visit, place, Notice.of(error))
    if diff is None or diff.is_empty:
        return await _page(visit, place, Notice(f"Nothing has changed in {source}"))
    return await _page(visit, place, diff=diff, source=source)


async def _location(place: Place, at: At, source: str) -> Path:
    sources = await place.store(at.company, lambda store: store.sources())
    if not sources or source not in sources:
        raise NotFound(f"there is no source {source!r}", hint="reload the page")
    return Path(sources[source][0])


async def _add_source(place: Place, at: At, value: NewSource) -> str:
    folder = Path(value.folder).expanduser()
    if not folder.is_absolute() or not folder.is_dir():
        raise InvalidQuery(f"{folder} is not a folder on this machine", param="folder")
    source = value.source or folder.name
    if source == UPLOADS:
        raise InvalidQuery(f"{UPLOADS!r} is the source of uploads", param="source")

    def add(store: Store) -> None:
        if source in store.sources():
            raise LearningError(f"there is a source {source!r} already", hint="choose a name")
        store.set_source(source, str(folder.resolve()), [EVERYONE])

    await place.library(lambda library: library.create(at.company).close())
    await place.store(at.company, add)
    return source


async def _switch_on(visit: Visit, at: At) -> None:
    """Let members ask the company tier, where the visitor may switch it on."""
    if at.accounts.is_admin and not await _is_on(visit, at):
        path = f"/admin/flags/tier.company/overrides/company/{at.company}"
        await visit.gateway.ask("PUT", path, {"value": True})


async def _is_on(visit: Visit, at: At) -> bool:
    try:
        found = await visit.gateway.ask(
            "POST", "/ofrep/v1/evaluate/flags/tier.company",
            {"context": {"company_id": at.company}},
        )  # fmt: skip
    except TierError:
        return True  # a key without the right to read switches: nothing is said about them
    return bool(found.get("value"))


async def _document(visit: Visit, place: Place) -> Response:
    at = await place.at(visit)
    number = int(visit.path["document"])

    def read(store: Store) -> tuple[SourceText, Stored] | None:
        shown = store.readable(number, None)
        stored = next((one for one in store.documents() if one.id == number), None)
        return None if shown is None or stored is None else (shown, stored)

    found = await place.store(at.company, read)
    if found is None:
        raise NotFound("there is no such document", hint="it may have been replaced or deleted")
    text, stored = found
    whole = text.text
    start, end = (_offset(visit.query.get(name), len(whole)) for name in ("start", "end"))
    first, last = max(0, start - SHOWN), min(len(whole), max(start, end) + SHOWN)
    return visit.page(
        "console/knowledge/document.html", at=at, tab="documents", text=text, stored=stored,
        before=whole[first:start], words=whole[start:end], after=whole[max(start, end) : last],
        is_cut=first > 0 or last < len(whole),
    )  # fmt: skip


def _offset(text: str | None, most: int) -> int:
    return min(int(text), most) if text and text.isdecimal() and len(text) < 12 else 0
