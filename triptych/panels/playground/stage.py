"""Everything one Playground works with, made once and closed once; and what one visit keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from triptych.config import Config, environment
from triptych.errors import GenerationError, TriptychError
from triptych.lm.generate.engine import Score
from triptych.lm.runs.store import RunStore
from triptych.panels.playground.arena import Arena, Contest
from triptych.panels.playground.gateway import PREFIX, open_gateway, tier_of
from triptych.panels.playground.line import Line
from triptych.panels.playground.offers import Choice, Offers, Resolve
from triptych.panels.playground.shelf import Shelf
from triptych.panels.playground.visitor import Visitor
from triptych.panels.playground.votes import Verdict, VoteBook

REMEMBERED = 40


@dataclass(eq=False)
class Visit:
    """What one visitor did since the page was opened.

    The page notices a change by its hash, which counts the changes.
    """

    contests: list[Contest] = field(default_factory=list)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    voted: set[str] = field(default_factory=set)
    shown: str = ""
    changes: int = 0

    def __hash__(self) -> int:
        return self.changes

    def add(self, contest: Contest) -> None:
        """Remember a comparison, and show it."""
        self.contests = [*self.contests, contest][-REMEMBERED:]
        self.shown = contest.contest_id
        self.changes += 1

    def vote(self, contest: Contest, verdict: Verdict | None) -> None:
        """Remember what was said of a comparison; a verdict ends the hiding of names."""
        self.voted.add(contest.contest_id)
        if verdict is not None:
            self.verdicts[contest.contest_id] = verdict
            contest.revealed = True
        self.changes += 1

    def find(self, contest_id: str) -> Contest | None:
        """Give a comparison of this visit."""
        return next((c for c in self.contests if c.contest_id == contest_id), None)

    @property
    def current(self) -> Contest | None:
        """Give the comparison that is on the page."""
        return self.find(self.shown)


class Stage:
    """The models on offer, the shelf they stand on, the line, the votes, the gateway."""

    def __init__(
        self,
        config: Config,
        store: RunStore,
        resolve: Resolve,
        named: Sequence[str] = (),
        gateway: str = "",
    ) -> None:
        self.config = config
        self.offers = Offers(config, store, resolve, named)
        self.shelf = Shelf(config, self.offers)
        self.gateway = open_gateway(config, gateway)
        self.line = Line(config.panels)
        self.arena = Arena(self.shelf, self.gateway, self.line)
        self.votes = VoteBook(environment.home() / "playground" / "votes.jsonl")

    async def choices(self, visitor: Visitor | None = None) -> list[Choice]:
        """List what can be compared now: models here, then the gateway's."""
        names = await self.gateway.models(visitor.key if visitor else None) if self.gateway else []
        return [
            *self.offers.choices(),
            *(Choice(f"gateway · {name}", f"{PREFIX}{name}") for name in names),
        ]

    async def score(
        self, reference: str, text: str, visitor: Visitor, *, alternatives: int = 0
    ) -> Score:
        """Give the probability of each token of a text, after waiting in line like an answer.

        Raises: UnknownModel, TooBusy, GenerationError; with code `unsupported` for a tier.
        """
        if tier_of(reference) is not None:
            raise GenerationError(
                "a gateway does not tell probabilities", hint="choose a model", code="unsupported"
            )
        with self.line.join(visitor.name) as ticket:
            await ticket.called.wait()
            model = await self.shelf.find(reference)
            return await self.shelf.score(model, text, alternatives=alternatives)

    def label(self, reference: str) -> str:
        """Give the name people read for a reference."""
        tier = tier_of(reference)
        if tier is not None:
            return f"gateway · {tier}"
        try:
            return self.offers.label(reference)
        except TriptychError:
            return reference

    def may_open(self, reference: str) -> bool:
        """Tell whether a reference from an address could be compared here."""
        if tier_of(reference) is not None:
            return self.gateway is not None
        return self.offers.is_offered(reference) or self.offers.may_fetch(reference)

    def close(self) -> None:
        """Close every model."""
        self.shelf.close()
