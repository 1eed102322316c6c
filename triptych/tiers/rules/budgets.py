"""Budgets: how many tokens and how much money a key, a company or a user may use.

A request sets aside what it may need before a provider is called, and its record puts the true
figure in the place of that. All who wait to set something aside share one transaction, in the
database that all workers share, so that no two of them can have the same last token. Without a
budget nothing is asked; while the database is away requests are served and counted afterwards.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Literal, NamedTuple, get_args

from triptych.errors import BudgetSpent, StorageError, TierError
from triptych.tiers.rules.acting import is_entered

logger = logging.getLogger("triptych.gateway")

Period = Literal["day", "month", "total"]
PERIODS: tuple[Period, ...] = get_args(Period)
_DAY_S = 86_400
_HELD_RETRY_S = 1.0


class Budget(NamedTuple):
    """What one subject may use in one period; None: without a limit."""

    subject: str
    period: Period
    max_tokens: int | None
    max_cost_microusd: int | None


class Used(NamedTuple):
    """What was used, and what requests in flight have set aside."""

    tokens: int
    cost_microusd: int
    held_tokens: int
    held_cost_microusd: int


class Need(NamedTuple):
    """What one request sets aside, under every budget that covers it."""

    request_id: str
    budgets: tuple[Budget, ...]
    tokens: int
    cost_microusd: int


Reserve = Callable[[list[Need]], Awaitable[list[TierError | None]]]
"""Set several needs aside in one transaction: an error for each that does not fit."""


class Budgets:
    """The budgets of this moment, by subject."""

    def __init__(self, budgets: Iterable[Budget] = ()) -> None:
        self._of: dict[str, tuple[Budget, ...]] = {}
        for budget in budgets:
            self._of[budget.subject] = (*self._of.get(budget.subject, ()), budget)

    def __bool__(self) -> bool:
        return bool(self._of)

    def covering(self, subjects: Iterable[str]) -> tuple[Budget, ...]:
        """Return every budget of some subjects."""
        return tuple(budget for subject in subjects for budget in self._of.get(subject, ()))


class BudgetLedger:
    """Let the requests of one worker that come at the same time set aside together."""

    def __init__(self, reserve: Reserve) -> None:
        self._reserve = reserve
        self._waiting: list[tuple[Need, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._away = False

    async def hold(self, need: Need) -> None:
        """Set aside what a request may need.

        Raises: BudgetSpent.
        """
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((need, granted))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._settle(), name="budgets")
        await granted

    async def _settle(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            try:
                verdicts = await self._reserve([need for need, _ in waiting])
                self._away = False
            except StorageError as error:
                if not self._away:
                    logger.warning("budgets are not held while the database is away: %s", error)
                self._away = True
                verdicts = [None] * len(waiting)
            except BaseException:
                for _, granted in waiting:
                    granted.cancel()
                raise
            for (_, granted), verdict in zip(waiting, verdicts, strict=True):
                if granted.done():
                    continue  # the client left meanwhile; its record frees what was set aside
                if verdict is None:
                    granted.set_result(None)
                else:
                    granted.set_exception(verdict)


def subjects(key_id: str, company_id: str | None, user_id: str | None) -> tuple[str, ...]:
    """Return the accounts a request is counted on: key, company and entered user."""
    found = [f"key:{key_id}"]
    if company_id is not None:
        found.append(f"company:{company_id}")
    if user_id is not None and is_entered(user_id):
        found.append(f"user:{user_id}")
    return tuple(found)


def verdict(budget: Budget, used: Used, need: Need, now: float) -> TierError | None:
    """Return why a need does not fit under a budget; None when it does."""
    for what, most, spent, held, wanted in (
        ("tokens", budget.max_tokens, used.tokens, used.held_tokens, need.tokens),
        (
            "cost",
            budget.max_cost_microusd,
            used.cost_microusd,
            used.held_cost_microusd,
            need.cost_microusd,
        ),
    ):
        if most is None or spent + held + wanted <= most:
            continue
        if spent + wanted <= most and held:
            return BudgetSpent(
                f"{_told(budget, what, most)}: what is left is set aside for requests in flight",
                hint="try again in a moment",
                code="budget_in_use",
                retry_after_s=_HELD_RETRY_S,
            )
        return _spent(budget, what, most, spent, wanted, now)
    return None


def _spent(
    budget: Budget, what: str, most: int, spent: int, wanted: int, now: float
) -> BudgetSpent:
    used = f"{_amount(what, spent)} are used, this request may need {_amount(what, wanted)}"
    message = f"{_told(budget, what, most)}: {used}"
    if wanted > most:
        return BudgetSpent(message, status=402, hint="send a smaller max_tokens")
    if budget.period == "total":
        return BudgetSpent(message, status=402, hint="an admin can raise the budget")
    return BudgetSpent(
        message,
        hint="it begins anew at the time in retry-after; an admin can raise it",
        retry_after_s=ends_at(budget.period, now) - now,
    )


def _told(budget: Budget, what: str, most: int) -> str:
    kind, _, name = budget.subject.partition(":")
    whose = f"the {kind} {name}" if kind != "key" else "this key"
    per = "in all" if budget.period == "total" else f"a {budget.period}"
    return f"{whose} may use {_amount(what, most)} {per}"


def _amount(what: str, value: int) -> str:
    return f"{value:,} tokens" if what == "tokens" else f"${value / 1_000_000:,.4f}"


def first_day(period: str, now: float) -> int:
    """Return the day since 1970 with which the current period began."""
    if period == "day":
        return int(now // _DAY_S)
    if period == "month":
        date = datetime.datetime.fromtimestamp(now, datetime.UTC).date().replace(day=1)
        return (date - datetime.date(1970, 1, 1)).days
    return 0


def ends_at(period: str, now: float) -> float:
    """Return when the current period ends. Units: Unix seconds."""
    if period == "day":
        return float((now // _DAY_S + 1) * _DAY_S)
    date = datetime.datetime.fromtimestamp(now, datetime.UTC)
    following = (date.replace(day=1) + datetime.timedelta(days=32)).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )
    return following.timestamp()


def shown(budget: Budget, used: Used, now: float) -> Mapping[str, object]:
    """Write down a budget with what is used of it."""
    return {
        "subject": budget.subject,
        "period": budget.period,
        "max_tokens": budget.max_tokens,
        "max_cost_microusd": budget.max_cost_microusd,
        **used._asdict(),
        "ends_at": None if budget.period == "total" else ends_at(budget.period, now),
    }


__all__ = ["PERIODS", "Budget", "BudgetLedger", "Budgets", "Need", "Used", "subjects", "verdict"]
