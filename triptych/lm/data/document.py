"""What flows through corpus building: documents, what was dropped and why, how far reading is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

# The best place to cut a long text, best first.
_CUTS = ("\n\n", "\n", ". ", " ")


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
class Reading:
    """Count what a source gave: the bytes read so far, and the documents it could not give.

    Units: `read_bytes` and `total_bytes` are bytes on disk, compressed where the file is;
    `total_bytes` is 0 while it is not known.
    """

    read_bytes: int = 0
    total_bytes: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    dropped_bytes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    advice: dict[str, str] = field(default_factory=dict)

    def drop(self, reason: str, source: str, size_bytes: int = 0) -> None:
        """Count one dropped document, and remember the first few of each reason by name."""
        self.dropped[reason] += 1
        self.dropped_bytes[reason] += size_bytes
        examples = self.examples.setdefault(reason, [])
        if len(examples) < 3 and source not in examples:
            examples.append(source)

    def advise(self, reason: str, hint: str) -> None:
        """Keep the first advice on documents that were dropped for a reason."""
        self.advice.setdefault(reason, hint)

    def merge(self, other: Reading) -> None:
        """Add what another source dropped."""
        self.dropped.update(other.dropped)
        self.dropped_bytes.update(other.dropped_bytes)
        for reason, examples in other.examples.items():
            mine = self.examples.setdefault(reason, [])
            mine.extend(examples[: 3 - len(mine)])
        self.advice = other.advice | self.advice

    def summary(self) -> str:
        """Return in a few words what was dropped."""
        parts = []
        for reason, count in sorted(self.dropped.items()):
            example = self.examples[reason][0]
            parts.append(f"{count:,} {reason.replace('_', ' ')} ({example})")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, dict[str, object]]:
        """Return count, bytes and examples by reason, in alphabetical order."""
        return {
            reason: {
                "documents": self.dropped[reason],
                "bytes": self.dropped_bytes[reason],
                "examples": self.examples[reason],
                **({"advice": self.advice[reason]} if reason in self.advice else {}),
            }
            for reason in sorted(self.dropped)
        }


def is_unicode(text: str) -> bool:
    """Return whether every character can be written, that is, no broken byte was read."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def cut_text(text: str, max_chars: int) -> int:
    """Return where to cut so that the first part has at most `max_chars` characters.

    At the last paragraph, line, sentence or word of its second half, else anywhere.
    """
    for separator in _CUTS:
        found = text.rfind(separator, max_chars // 2, max_chars)
        if found >= 0:
            return found + len(separator)
    return max_chars


def parts(document: Document, max_chars: int) -> Iterator[Document]:
    """Yield a document whole, or in parts of at most `max_chars` characters."""
    text, number = document.text, 0
    while len(text) > max_chars:
        cut = cut_text(text, max_chars)
        yield _part(document, text[:cut], number)
        text, number = text[cut:], number + 1
    yield document if number == 0 else _part(document, text, number)


def _part(document: Document, text: str, number: int) -> Document:
    source = f"{document.source}#part{number}"
    return Document(text, source, document.licence, document.group)
