"""Votes for the better answer: kept, counted with intervals, exported as preferences.

TRIPTYCH_HOME/playground/votes.jsonl grows by one line a vote and is never rewritten; voting again
on the same comparison adds a line that counts instead of the earlier one. Left out: asking for
a vote, and telling the gateway.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from triptych.durable import AppendLog, read_jsonl
from triptych.panels.playground.comparison import Comparison

FORMAT_VERSION = 1
Z_95 = 1.959963984540054

#: The index of the best answer, or that all are good, or that none is.
Verdict = int | Literal["all", "none"]


@dataclass(frozen=True)
class WinRate:
    """How often one model was preferred to another.

    Units: `low` and `high` bound the rate of wins among the decided votes with 95 % confidence.
    """

    model: str
    against: str
    won: int
    lost: int
    tied: int
    rate: float
    low: float
    high: float


def wilson(won: int, decided: int, z: float = Z_95) -> tuple[float, float]:
    """Return the interval of a proportion; it holds for few votes and at 0 and 1 too.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference,
    Journal of the American Statistical Association 22 (1927) 209-212; recommended for small
    samples by Brown, Cai and DasGupta, Interval estimation for a binomial proportion,
    Statistical Science 16 (2001) 101-133.
    """
    if not decided:
        return 0.0, 1.0
    share, weight = won / decided, z * z / decided
    middle = (share + weight / 2) / (1 + weight)
    reach = z / (1 + weight) * math.sqrt((share * (1 - share) + weight / 4) / decided)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def record_of(
    comparison: Comparison,
    verdict: Verdict | None,
    *,
    comment: str = "",
    correction: str = "",
    about: int = -1,
) -> dict[str, Any]:
    """Write a vote down: what was asked, what each answered, which was preferred.

    `about` is the answer that comment and correction speak of; -1 is all of them. A verdict may be
    missing: then only something was said.
    """
    answers = []
    for column in comparison.columns:
        entry = column.entry
        sampling = asdict(entry.sampling)
        answers.append(
            {
                "reference": entry.reference,
                "label": entry.label,
                "prompt": entry.prompt,
                "chat": entry.chat,
                "sampling": {name: value for name, value in sampling.items() if value is not None},
                "text": column.text,
                "output_tokens": column.output_tokens,
                "failed": column.failed,
                **column.origin,
            }
        )
    return {
        "format_version": FORMAT_VERSION,
        "vote_id": comparison.comparison_id,
        "time_s": time.time(),
        "blind": comparison.blind,
        "verdict": verdict,
        "answers": answers,
        "comment": comment,
        "correction": correction,
        "about": about,
    }


class VoteBook:
    """Keep every vote on disk, and count them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._guard = threading.Lock()
        self._read: tuple[int, dict[str, dict[str, Any]]] = (-1, {})

    def add(self, record: Mapping[str, Any]) -> None:
        """Append a vote; it is on disk when this returns.

        Raises: StorageError.
        """
        with self._guard, AppendLog(self.path) as log:
            log.append(dict(record), sync=True)

    def votes(self, *, blind_only: bool = False) -> list[dict[str, Any]]:
        """Return the votes that count, oldest first."""
        with self._guard:
            size_bytes = self.path.stat().st_size if self.path.exists() else 0
            if size_bytes != self._read[0]:
                latest: dict[str, dict[str, Any]] = {}
                for record in read_jsonl(self.path):
                    latest.pop(record["vote_id"], None)
                    latest[record["vote_id"]] = record
                self._read = size_bytes, latest
            kept = list(self._read[1].values())
        return [vote for vote in kept if vote["blind"] or not blind_only]

    def win_rates(self, *, blind_only: bool = False) -> list[WinRate]:
        """Count each pair of models that met, the better one first.

        Two answers of one model, as in a comparison of temperatures, are no comparison of models.
        """
        counted: dict[tuple[str, str], list[int]] = {}
        for vote in self.votes(blind_only=blind_only):
            for pair in pairs(vote):
                a, b = name_of(pair["a"]), name_of(pair["b"])
                if a == b:
                    continue
                first, second = sorted((a, b))
                tally = counted.setdefault((first, second), [0, 0, 0])
                winner = {"a": a, "b": b}.get(pair["winner"])
                tally[2 if winner is None else (0 if winner == first else 1)] += 1
        rates = []
        for (first, second), (one, other, tied) in counted.items():
            better = (first, second, one, other) if one >= other else (second, first, other, one)
            model, against, won, lost = better
            low, high = wilson(won, won + lost)
            rate = won / (won + lost) if won + lost else math.nan
            rates.append(WinRate(model, against, won, lost, tied, rate, low, high))
        return sorted(rates, key=lambda rate: (-(rate.won + rate.lost), rate.model))

    def export(self, path: Path, only: set[str] | None = None) -> int:
        """Write the pairs as JSON lines, those of the votes with these ids only; give their count.

        A decided pair has `prompt`, `chosen` and `rejected`, which preference training reads.
        """
        count = 0
        with path.open("w", encoding="utf-8") as file:
            for vote in self.votes():
                if only is not None and vote["vote_id"] not in only:
                    continue
                for pair in pairs(vote):
                    file.write(json.dumps(pair, ensure_ascii=False) + "\n")
                    count += 1
        return count


def name_of(answer: Mapping[str, Any]) -> str:
    """Name what answered, revision included where the name alone does not say it."""
    model = str(answer["reference"])
    revision = str(answer.get("revision", ""))[:12]
    return model if not revision or revision in model else f"{model} ({revision})"


def pairs(vote: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each two answers of a vote that it says something about."""
    verdict, answers = vote["verdict"], vote["answers"]
    told = {"format_version": FORMAT_VERSION} | {
        name: vote[name]
        for name in ("vote_id", "time_s", "blind", "comment", "correction", "about")
    }
    for left, right in combinations(range(len(answers)), 2):
        a, b = answers[left], answers[right]
        if a["failed"] or b["failed"]:
            continue
        if verdict in ("all", "none"):
            yield {**told, "winner": verdict, "a": a, "b": b}
        elif verdict in (left, right):
            chosen, rejected = (a, b) if verdict == left else (b, a)
            yield {
                **told,
                "winner": "a" if verdict == left else "b",
                "prompt": chosen["prompt"],
                "chosen": chosen["text"],
                "rejected": rejected["text"],
                "a": a,
                "b": b,
            }
