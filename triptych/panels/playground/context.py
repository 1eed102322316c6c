"""Everything one Playground works with, made once and closed once; and what one visit keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from triptych.config import Config, environment
from triptych.errors import GenerationError, TriptychError
from triptych.lm.generate.engine import Score
from triptych.lm.runs.store import RunStore
from triptych.panels.playground.comparison import Comparer, Comparison
from triptych.panels.playground.gateway import PREFIX, open_gateway, tier_of
from triptych.panels.playground.models.chat_models import is_chat_model
from triptych.panels.playground.models.loaded_models import LoadedModels
from triptych.panels.playground.models.model_list import Choice, ModelList, Resolve
from triptych.panels.playground.models.queue import AnswerQueue
from triptych.panels.playground.visitor import Visitor
from triptych.panels.playground.votes import Verdict, VoteBook

REMEMBERED = 40


@dataclass(eq=False)
class Visit:
    """What one visitor did since the page was opened.

    The page notices a change by its hash, which counts the changes.
    """

    comparisons: list[Comparison] = field(default_factory=list)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    voted: set[str] = field(default_factory=set)
    shown: str = ""
    changes: int = 0

    def __hash__(self) -> int:
        return self.changes

    def add(self, comparison: Comparison) -> None:
        """Remember a comparison, and show it."""
        self.comparisons = [*self.comparisons, comparison][-REMEMBERED:]
        self.shown = comparison.comparison_id
        self.changes += 1

    def vote(self, comparison: Comparison, verdict: Verdict | None) -> None:
        """Remember what was said of a comparison; a verdict ends the hiding of names."""
        self.voted.add(comparison.comparison_id)
        if verdict is not None:
            self.verdicts[comparison.comparison_id] = verdict
            comparison.revealed = True
        self.changes += 1

    def find(self, comparison_id: str) -> Comparison | None:
        """Return a comparison of this visit."""
        return next((c for c in self.comparisons if c.comparison_id == comparison_id), None)

    @property
    def current(self) -> Comparison | None:
        """Return the comparison that is on the page."""
        return self.find(self.shown)


class Context:
    """The models on offer, the loaded_models they stand on, the line, the votes, the gateway."""

    def __init__(
        self,
        config: Config,
        store: RunStore,
        resolve: Resolve,
        named: Sequence[str] = (),
        gateway: str = "",
    ) -> None:
        self.config = config
        self.model_list = ModelList(config, store, resolve, named)
        self.loaded_models = LoadedModels(config, self.model_list)
        self.gateway = open_gateway(config, gateway)
        self.queue = AnswerQueue(config.panels)
        self.comparer = Comparer(self.loaded_models, self.gateway, self.queue)
        self.votes = VoteBook(environment.home() / "playground" / "votes.jsonl")

    async def choices(self, visitor: Visitor | None = None) -> list[Choice]:
        """List what can be compared now: models here, then the gateway's."""
        names = await self.gateway.models(visitor.key if visitor else None) if self.gateway else []
        return [
            *self.model_list.choices(),
            *(Choice(f"gateway · {name}", f"{PREFIX}{name}") for name in names),
        ]

    async def score(
        self, reference: str, text: str, visitor: Visitor, *, alternatives: int = 0
    ) -> Score:
        """Return the probability of each token of a text; it waits in the queue like an answer.

        Raises: UnknownModel, TooBusy, GenerationError; with code `unsupported` for a tier.
        """
        if tier_of(reference) is not None:
            raise GenerationError(
                "a gateway does not tell probabilities", hint="choose a model", code="unsupported"
            )
        with self.queue.join(visitor.name) as ticket:
            await ticket.called.wait()
            model = await self.loaded_models.find(reference)
            return await self.loaded_models.score(model, text, alternatives=alternatives)

    def label(self, reference: str) -> str:
        """Return the label of a reference."""
        tier = tier_of(reference)
        if tier is not None:
            return f"gateway · {tier}"
        try:
            return self.model_list.label(reference)
        except TriptychError:
            return reference

    def is_chat(self, reference: str) -> bool:
        """Return whether a prompt is a chat message to this model; nothing is fetched."""
        if tier_of(reference) is not None:
            return True
        try:
            return is_chat_model(self.loaded_models.choose(reference).model.folder)
        except TriptychError:
            return False

    def may_open(self, reference: str) -> bool:
        """Return whether a reference from an address could be compared here."""
        if tier_of(reference) is not None:
            return self.gateway is not None
        return self.model_list.is_offered(reference) or self.model_list.may_fetch(reference)

    def close(self) -> None:
        """Close every model."""
        self.loaded_models.close()
