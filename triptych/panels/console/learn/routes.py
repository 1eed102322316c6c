"""The routes of the Learn page. Each act is the command of the same name, in the admin's name."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic import Field as Limits
from starlette.responses import Response
from starlette.routing import Route

from triptych.config import environment
from triptych.errors import NotFound, TriptychError
from triptych.learning.loop.controller import place_of
from triptych.learning.loop.status import LoopStatus, read_status
from triptych.lm.runs.rights import LOCAL
from triptych.panels.command import hub_token, run_triptych
from triptych.panels.console.accounts import Accounts, read_accounts
from triptych.panels.console.learn import view
from triptych.panels.visitor import Visitor
from triptych.panels.web.forms import Field, Form, FormSpec
from triptych.panels.web.notices import Notice
from triptych.panels.web.site import Pages, Site, Visit
from triptych.wire.tiers import TIERS

PATH = "/console/learn"
ONE = PATH + "/{tier}"
_ACT_S, _TRAIN_S = 300.0, 7 * 86_400.0
KEY = "TRIPTYCH_ADMIN_KEY"


class Train(BaseModel):
    """From which weights to train, and how."""

    base: str = Limits(min_length=1, max_length=300, pattern=r"^[^-].*$")
    method: Literal["sft", "dpo", "kto"] = "sft"


class Start(BaseModel):
    """The two upstreams of a rollout."""

    champion: str = Limits(min_length=1, pattern=r"^[^-].*$")
    challenger: str = Limits(min_length=1, pattern=r"^[^-].*$")
    approve: bool = False


TRAIN = FormSpec(
    Train,
    (
        Field("base", "Model to train further", hint="A folder, a run, or owner/name of the hub"),
        Field("method", "Method", "pick", choices=(
            ("sft", "corrected answers (sft)"), ("dpo", "preferred answers (dpo)"),
            ("kto", "right or wrong (kto)"),
        )),
    ),
)  # fmt: skip
START = FormSpec(
    Start,
    (
        Field("champion", "Serves now", "pick"),
        Field("challenger", "New candidate", "pick"),
        Field("approve", "Each larger share needs my approval", "check"),
    ),
)


@dataclass
class Training:
    """A training that this process started; its state is in the loop's own folder."""

    thread: threading.Thread | None = None
    error: TriptychError | None = None

    @property
    def running(self) -> bool:
        """Return whether the command runs."""
        return self.thread is not None and self.thread.is_alive()


@dataclass(frozen=True)
class At:
    """The tier of a visit, and the company whose judgements and traffic it is about."""

    tier: str
    company: str
    accounts: Accounts

    @property
    def words(self) -> list[str]:
        """Return the arguments of a command."""
        return ["--tier", self.tier, *(["--company", self.company] if self.company else [])]


def routes(site: Site) -> list[Route]:
    """Return the routes of the Learn page."""
    pages, trainings = Pages(site), dict[tuple[str, str], Training]()

    @pages.get(PATH, role="admin")
    async def learn(visit: Visit) -> Response:
        return visit.go(f"{PATH}/{TIERS[0]}")

    @pages.get(ONE, role="admin")
    async def learn_tier(visit: Visit) -> Response:
        return await _page(visit, trainings)

    @pages.post(ONE + "/act", role="admin")
    async def act(visit: Visit) -> Response:
        at, verb = await _at(visit), str(visit.form.get("verb", ""))
        if verb not in view.BUTTONS:
            raise NotFound("there is no such act", hint="reload the page")
        notice = await _run(visit, [verb, *at.words])
        return await _page(visit, trainings, notice)

    @pages.post(ONE + "/start", role="admin")
    async def start(visit: Visit) -> Response:
        at, form, notice = await _at(visit), START.read(visit.form), Notice()
        if form.value is not None:
            value = form.value
            more = ["--approve"] if value.approve else []
            notice = await _run(
                visit, ["start", *at.words, *more, value.champion, value.challenger]
            )
        return await _page(visit, trainings, notice, start=form)

    @pages.post(ONE + "/train", role="admin")
    async def train(visit: Visit) -> Response:
        at, form = await _at(visit), TRAIN.read(visit.form)
        known = trainings.get((at.tier, at.company))
        if form.value is not None and not (known and known.running):
            words = ["train", *at.words, "--base", form.value.base, "--method", form.value.method]
            trainings[at.tier, at.company] = _training(visit, words)
        return await _page(visit, trainings, train=form)

    return pages.routes


async def _at(visit: Visit) -> At:
    tier = str(visit.path["tier"])
    accounts = await read_accounts(visit)
    company = str(visit.form.get("company") or visit.query.get("company") or "")
    if tier not in TIERS or (company and company not in accounts.companies):
        raise NotFound("there is no such tier or company", hint="choose one of the page")
    return At(tier, company, accounts)


def _command(visit: Visit, words: list[str], timeout_s: float) -> str:
    assert visit.session is not None
    more = {KEY: visit.session.key, **hub_token()}
    gateway = visit.site.sessions.gateway
    words = ["learn", *words[:1], "--gateway", gateway, *words[1:]]
    return run_triptych(words, Visitor(LOCAL), timeout_s, more=more)


async def _run(visit: Visit, words: list[str]) -> Notice:
    try:
        printed = await asyncio.to_thread(_command, visit, words, _ACT_S)
    except TriptychError as error:
        return Notice.of(error)
    first, *_ = [*printed.strip().splitlines(), "Done"]
    return Notice(first.rpartition(": /")[0] or first)  # without the folder that a command names


def _training(visit: Visit, words: list[str]) -> Training:
    state = Training()

    def work() -> None:
        try:
            _command(visit, words, _TRAIN_S)
        except TriptychError as error:
            state.error = error

    state.thread = threading.Thread(target=work, name="learn train", daemon=True)
    state.thread.start()
    return state


def _status(root: Path, at: At) -> LoopStatus:
    return read_status(place_of(root, at.tier, at.company or None))


async def _page(
    visit: Visit, trainings: dict[tuple[str, str], Training], notice: Notice | None = None,
    *, start: Form[Start] | None = None, train: Form[Train] | None = None,
) -> Response:  # fmt: skip
    at = await _at(visit)
    status, found = await asyncio.gather(
        asyncio.to_thread(_status, environment.home() / "learning", at),
        visit.gateway.ask("GET", "/admin/upstreams"),
    )
    upstreams: list[dict[str, Any]] = found["upstreams"]
    serving = [(one["name"], one["name"]) for one in upstreams if at.tier in one["models"]]
    candidates = [
        (one["name"], one["name"]) for one in upstreams if f"{at.tier}.challenger" in one["models"]
    ]
    forms: dict[str, Form[Any]] = {
        "start": (start or START.empty()).with_choices(
            champion=serving or [("", "No upstream serves this tier")],
            challenger=candidates or [("", f"No upstream offers {at.tier}.challenger yet")],
        ),
        "train": train or TRAIN.empty(),
    }
    submits = {"start": "Start the rollout", "train": "Train an adapter"}
    return visit.page(
        "console/learn/page.html", fragment="line", at=at, line=view.line(status), forms=forms,
        submits=submits, tiers=TIERS, path=f"{PATH}/{at.tier}", notice=notice or Notice(),
        training=trainings.get((at.tier, at.company)) or Training(),
        status=max(one.http_status for one in forms.values()),
    )  # fmt: skip
