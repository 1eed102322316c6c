"""Records that the database refuses as they are: too long, a number too large, a zero byte.

What clients and upstreams call things ends up in records, so one of them must never hold up all
the others: it is trimmed to its columns, and what is refused even then is set aside in a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import BigInteger, Integer, String, Table
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, ProgrammingError

from triptych.errors import StorageError
from triptych.tiers.store import tables

ERRORS = (StorageError, IntegrityError, OverflowError)
_ABOUT_VALUES = ("22", "23")
"""SQLSTATE classes: data exceptions and broken constraints."""


def is_refusal(error: BaseException) -> bool:
    """Return whether a database answered and did not want the rows, so that waiting cannot help."""
    if not isinstance(error, StorageError):
        return True
    cause = error.__cause__
    state = str(getattr(getattr(cause, "orig", None), "sqlstate", "") or "")
    if state:
        return state.startswith(_ABOUT_VALUES)
    return isinstance(cause, (DataError, InterfaceError, ProgrammingError)) and not getattr(
        cause, "connection_invalidated", False
    )


def trimmed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Fit a record with its attempts and its content into their columns."""
    whole = _fit(tables.requests, record)
    whole["tries"] = [_fit(tables.attempts, attempt) for attempt in record.get("tries", ())]
    if record.get("content"):
        whole["content"] = _fit(tables.contents, record["content"])
    return whole


def _fit(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    fitted = dict(row)
    for column in table.columns:
        value, kind = fitted.get(column.name), column.type
        if isinstance(value, str) and isinstance(kind, String):
            fitted[column.name] = value.replace("\0", "\ufffd")[: kind.length]
        elif isinstance(value, int) and isinstance(kind, Integer):
            most = 2 ** (63 if isinstance(kind, BigInteger) else 31) - 1
            fitted[column.name] = max(-most, min(most, value))
        elif isinstance(value, (dict, list)):
            fitted[column.name] = orjson.loads(orjson.dumps(value).replace(b"\\u0000", b"?"))
    return fitted


def set_aside(root: Path, record: Mapping[str, Any]) -> Path:
    """Keep what no database took where an operator finds it.

    Raises: StorageError when it cannot be stored either.
    """
    path = root / "refused.jsonl"
    try:
        with path.open("ab") as file:
            file.write(orjson.dumps(dict(record)) + b"\n")
        path.chmod(0o600)
    except OSError as error:
        raise StorageError(f"{path} cannot be written") from error
    return path


def forget(root: Path, company_id: str | None, user_id: str | None) -> int:
    """Take a subject's records out of what was set aside.

    Returns: how many.
    """
    path, old = root / "refused.jsonl", root / "refused.old.jsonl"
    try:
        path.rename(old)  # another writer begins a new file meanwhile
    except FileNotFoundError:
        return 0
    gone = 0
    for line in old.read_bytes().splitlines():
        record = orjson.loads(line)
        its_company = company_id is None or record.get("company_id") == company_id
        if its_company and (user_id is None or record.get("user_id") == user_id):
            gone += 1
        else:
            set_aside(root, record)
    old.unlink()
    return gone
