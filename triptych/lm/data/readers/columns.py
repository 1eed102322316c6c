"""Which column of some records holds the text, and what records without one are.

Advice names a column only where taking it would work. Left out: reading records (records.py).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from triptych.config.data import DataConfig
from triptych.errors import DataError

_TURNS = ("messages", "conversations", "conversation")
_ALPACA = ({"instruction", "output"}, {"instruction", "response"})
_PREFERENCES = {"chosen", "rejected"}


def records_error(name: str, records: Sequence[dict[str, Any]], config: DataConfig) -> DataError:
    """Return the error for records without the text column: chats, or another column to take."""
    column = config.text_column
    method = post_training_method(records)
    if method:
        what = "preferences between answers" if method == "dpo" else "conversations"
        return DataError(
            f"{name} holds {what}, not texts",
            hint=f"learn from them with: triptych train --method {method} train.data={name} "
            "train.init_from=MODEL; as plain text, name a column: --set data.text_column=COLUMN",
            code="chat",
        )
    columns = list(dict.fromkeys(str(key) for record in records for key in record))
    best = _best_column(column, columns, records, config.min_chars)
    return DataError(
        f"{name} has no column {column!r}; its columns are {', '.join(columns) or 'none'}",
        hint=f"name the one that holds the text: --set data.text_column={best}"
        if best
        else f"none of them holds texts of at least {config.min_chars} characters",
        code="missing_column",
    )


def missing_column(name: str, column: str, columns: Iterable[str]) -> DataError:
    """Return the error for a table without the text column, where no value was read yet."""
    known = [str(known) for known in columns]
    nearest = difflib.get_close_matches(column, known, n=1)
    best = nearest[0] if nearest else (known[0] if known else "NAME")
    return DataError(
        f"{name} has no column {column!r}; its columns are {', '.join(known) or 'none'}",
        hint=f"name the one that holds the text: --set data.text_column={best}",
        code="missing_column",
    )


def post_training_method(records: Sequence[dict[str, Any]]) -> str:
    """Return `sft` for conversations, `dpo` for preference pairs, and nothing for other records."""
    for record in records:
        if set(record) >= _PREFERENCES:
            return "dpo"
        turns = next((record[key] for key in _TURNS if isinstance(record.get(key), list)), None)
        if turns and isinstance(turns[0], dict):
            return "sft"
        if any(set(record) >= alpaca for alpaca in _ALPACA):
            return "sft"
    return ""


def _best_column(
    column: str, columns: Sequence[str], records: Sequence[dict[str, Any]], min_chars: int
) -> str:
    """Return the column that holds texts and is nearest by name, else the one with most text."""
    sizes = {
        name: sum(
            len(record[name])
            for record in records
            if isinstance(record.get(name), str) and len(record[name]) >= min_chars
        )
        for name in columns
    }
    holding = [name for name, size in sizes.items() if size]
    if not holding:
        return ""
    nearest = difflib.get_close_matches(column, holding, n=1)
    return nearest[0] if nearest else max(holding, key=lambda name: sizes[name])
