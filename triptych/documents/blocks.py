"""The shapes: a document, its blocks, what was not read, and the limits of reading.

`Builder` is what every reader writes into: it keeps the heading path and the offsets, so that a
reader only says what it found. Left out: how a file kind is parsed (one module per kind).
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

FORMAT = 1
BlockKind = Literal["heading", "paragraph", "list", "table", "code", "note", "message"]
_SEPARATOR = "\n\n"
# Unicode line and page separators become spaces or line ends, so that no two words are joined.
_LINE_ENDS = re.compile("\r\n?|\x0b|\x0c|\x1c|\x1d|\x1e|\x85|\u2028|\u2029")
# Control characters and halves of surrogate pairs, which no UTF-8 file can hold.
_NOT_TEXT = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f\ufeff\ufffe\uffff\ud800-\udfff]")
_SPACES = re.compile("[^\\S\n]+")


@dataclass(frozen=True)
class Limits:
    """What one file may cost before it is given up with a reason."""

    time_s: float = 60.0
    memory_bytes: int = 2 << 30
    file_bytes: int = 256 << 20
    expanded_bytes: int = 512 << 20
    text_chars: int = 20_000_000
    pages: int = 5_000


@dataclass(frozen=True)
class Block:
    """One heading, paragraph, list, table, code or message of a document.

    `start` and `end` are character offsets: `document.text[start:end] == text`. `headings` is the
    path of headings above, outermost first; a heading's own path ends with itself. `page` counts
    from 1 and is None where the format has no pages.
    """

    kind: BlockKind
    headings: tuple[str, ...]
    page: int | None
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Unread:
    """Something that was not read: where it is, a code to count by, and the reason in words."""

    where: str
    code: str
    reason: str


@dataclass(frozen=True)
class Document:
    """A file as it was read. `name` is its path below the folder it was found in."""

    name: str
    title: str
    kind: str
    sha256: str
    size_bytes: int
    text: str
    blocks: tuple[Block, ...]
    unread: tuple[Unread, ...]

    @property
    def is_read(self) -> bool:
        """Return whether any text was found."""
        return bool(self.blocks)

    def as_json(self) -> dict[str, Any]:
        """Return the document as plain values; `from_json` is its inverse."""
        return {"format": FORMAT, **asdict(self)}

    @staticmethod
    def from_json(values: dict[str, Any]) -> Document:
        """Return the document that `as_json` wrote."""
        blocks = tuple(
            Block(**{**block, "headings": tuple(block["headings"])}) for block in values["blocks"]
        )
        unread = tuple(Unread(**item) for item in values["unread"])
        rest = {name: values[name] for name in ("name", "title", "kind", "sha256", "size_bytes")}
        return Document(**rest, text=values["text"], blocks=blocks, unread=unread)


class TooLarge(Exception):
    """Raised inside a reader when a limit is reached; what was read until then is kept."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass
class Builder:
    """Collect the blocks of one document in reading order."""

    limits: Limits
    title: str = ""
    blocks: list[Block] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    page: int | None = None
    _levels: list[tuple[int, str]] = field(default_factory=list)
    _pieces: list[str] = field(default_factory=list)
    _length: int = 0

    @property
    def text(self) -> str:
        """Return the text of all blocks so far."""
        return _SEPARATOR.join(self._pieces)

    @property
    def headings(self) -> tuple[str, ...]:
        """Return the path of headings that the next block stands under."""
        return tuple(text for _, text in self._levels)

    def heading(self, text: str, level: int) -> None:
        """Add a heading; it ends every heading of its own level or deeper.

        `level` counts from 1.
        """
        text = clean_line(text)
        if not text:
            return
        while self._levels and self._levels[-1][0] >= level:
            self._levels.pop()
        self._levels.append((level, text))
        if not self.title:
            self.title = text
        self.add("heading", text)

    def end_headings(self, level: int = 1) -> None:
        """Leave every heading of this level or deeper."""
        while self._levels and self._levels[-1][0] >= level:
            self._levels.pop()

    def add(self, kind: BlockKind, text: str) -> None:
        """Add a block; nothing happens where the text is blank.

        Raises: TooLarge when the document has more text than allowed.
        """
        text = clean_text(text, is_code=kind == "code")
        if not text:
            return
        start = self._length + (len(_SEPARATOR) if self._pieces else 0)
        if start + len(text) > self.limits.text_chars:
            raise TooLarge("too_much_text", f"more than {self.limits.text_chars:,} characters")
        self._pieces.append(text)
        self._length = start + len(text)
        self.blocks.append(Block(kind, self.headings, self.page, text, start, self._length))

    def table(self, rows: list[list[str]]) -> None:
        """Add a table, one line a row, cells between ` | `; empty rows are left out."""
        lines = []
        for row in rows:
            cells = [clean_line(cell).replace("|", "/") for cell in row]
            while cells and not cells[-1]:
                cells.pop()
            if cells:
                lines.append(" | ".join(cells))
        self.add("table", "\n".join(lines))

    def miss(self, where: str, code: str, reason: str) -> None:
        """Note something that was not read."""
        self.unread.append(Unread(where, code, reason))


def clean_text(text: str, *, is_code: bool = False) -> str:
    """Return text without control characters, with one kind of line end and single spaces.

    Code keeps its indentation.
    """
    text = _NOT_TEXT.sub("", _LINE_ENDS.sub("\n", text).replace("\xad", ""))
    if is_code:
        return text.expandtabs(4).strip("\n").rstrip()
    lines = (_SPACES.sub(" ", line).strip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def clean_line(text: str) -> str:
    """Return text on one line."""
    return " ".join(clean_text(text).split())
