"""Tables: rows that are links, a caption for screen readers, words for an empty one."""

from __future__ import annotations

from dataclasses import dataclass

Cell = str | int | float | None


@dataclass(frozen=True)
class Row:
    """One row; with `href` the whole row leads there, by its first cell's link.

    `mark` is a word for its state (`good`, `warn`, `bad`) that colours the first cell.
    """

    cells: tuple[Cell, ...]
    href: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table as a template draws it; `numbers` are the columns that are aligned as figures."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    empty: str = "Nothing yet."
    numbers: frozenset[int] = frozenset()
    more: str = ""
    """Address of the next page of rows; empty: there is none."""
    stack: bool = False
    """Whether each row is a block of labelled lines on a phone, for tables of many columns."""
