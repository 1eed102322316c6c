"""Proof that an adapter acts in an engine: it moves a text as it did when it was trained.

A server that answers with the base alone, or with another adapter, looks healthy from outside.
Left out: taking the figures to compare with (`lm/train/posttrain/probe`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.errors import CheckpointError
from triptych.lm.generate.engine import Engine
from triptych.lm.model.adapter_record import Probe, read_record

#: Most by which a movement may miss the recorded one, relative to it and in nats per token. What
#: precisions and quantised weights change is under a third of either.
#: Source: measured on SmolLM2 (Q4_1 in llama.cpp): missed 7 to 12 % of what it moved.
RELATIVE, NATS = 0.35, 0.03
_TEXT = "The company answers questions about its products, prices and opening hours."


@dataclass(frozen=True)
class Movement:
    """How far an adapter moves its probe.

    Units: nats per token, root mean square: as recorded, as found, and of their difference.
    """

    recorded: float | None
    found: float
    missed: float

    @property
    def agrees(self) -> bool:
        """Return whether the engine answers with this adapter."""
        if self.recorded is None:
            return self.found > 0
        return self.missed <= max(RELATIVE * self.recorded, NATS)


def measure_movement(engine: Engine, adapter: str, folder: Path) -> Movement:
    """Score the adapter's probe with and without it.

    An adapter that has no record, as one from elsewhere, is scored on a fixed text.

    Raises: CheckpointError for a torn record; GenerationError where the engine has no such adapter.
    """
    record = read_record(folder)
    probe = record.probe if record else None
    ids = list(probe.ids) if probe else engine.encode(_TEXT)
    base, adapted = _logps(engine, ids, None), _logps(engine, ids, adapter)
    found = [after - before for before, after in zip(base, adapted, strict=True)]
    if probe is None:
        return Movement(None, _rms(found), math.nan)
    wanted = movements(probe)
    missed = [one - other for one, other in zip(found, wanted, strict=True)]
    return Movement(_rms(wanted), _rms(found), _rms(missed))


def check_movement(engine: Engine, adapter: str, folder: Path) -> Movement:
    """Return the movement of an adapter, where it is the recorded one.

    Raises: CheckpointError (code `movement`) where it is not.
    """
    movement = measure_movement(engine, adapter, folder)
    if movement.agrees:
        return movement
    wanted = "it has no record, and changes nothing"
    if movement.recorded is not None:
        wanted = (
            f"its probe moves by {movement.found:.3g} nats per token, {movement.missed:.3g} away "
            f"from the {movement.recorded:.3g} recorded when it was trained"
        )
    raise CheckpointError(
        f"the adapter {adapter} of {folder} does not act as it was trained: {wanted}",
        hint="its files were changed, or belong to another base; publish or copy the checkpoint "
        "again, or train it again",
        code="movement",
    )


def movements(probe: Probe) -> list[float]:
    """Return what the adapter adds to the log-probability of each token of its probe."""
    return [after - before for before, after in zip(probe.base, probe.adapted, strict=True)]


def _logps(engine: Engine, ids: Sequence[int], adapter: str | None) -> list[float]:
    return [token.logprob for token in engine.score(ids, adapter=adapter).tokens[1:]]


def _rms(values: Sequence[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values))
