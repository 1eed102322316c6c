"""What flows through corpus building: a document, and the count of what was dropped and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Document:
    """Hold one text and where it comes from.

    Documents of one `group` always share a split: the parts of a long file, or the prose and
    the code of one module.
    """

    text: str
    source: str
    licence: str
    group: str


@dataclass
class Drops:
    """Count what was dropped by reason, and remember the first few of each by name."""

    counts: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, source: str, size_bytes: int = 0) -> None:
        """Count one dropped document."""
        self.counts[reason] += 1
        self.bytes[reason] += size_bytes
        examples = self.examples.setdefault(reason, [])
        if len(examples) < 3 and source not in examples:
            examples.append(source)

    def to_dict(self) -> dict[str, dict[str, object]]:
        """Return count, bytes and examples by reason, in alphabetical order."""
        return {
            reason: {
                "documents": self.counts[reason],
                "bytes": self.bytes[reason],
                "examples": self.examples[reason],
            }
            for reason in sorted(self.counts)
        }
