"""Keys and consents in a worker's memory: replaced whole, or key by key as they change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from triptych.tiers.rules.accounts import KeyRing
from triptych.tiers.rules.consent import Consents
from triptych.tiers.store import settings
from triptych.tiers.store.cluster import key_changes
from triptych.tiers.store.database import Database


class AccountCache:
    """Turn rows of the accounts into principals, as few of them as a change asks for."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self.consents: Consents = {}
        self._accounts: settings.Accounts | None = None
        self._changed: list[dict[str, Any]] | None = None

    async def read(
        self, database: Database, rows: settings.Rows, known: int, now: int
    ) -> settings.Rows:
        """Return the rows of the accounts at a version: the changed keys are read, or everything.

        Raises: StorageError.
        """
        self._changed = None
        if self._accounts is not None:
            self._changed = await key_changes.between(database, known, now)
        if self._changed is None:
            return await settings.read(database, "accounts")
        return settings.with_keys(rows, self._changed)

    def apply(self, rows: settings.Rows) -> None:
        """Let what was read take effect."""
        changed, self._changed = self._changed, None
        if changed is not None and self._accounts is not None:
            self._update(self._accounts, changed)
            return
        self._accounts = settings.Accounts(rows)
        self._keys.replace(self._accounts.principals(rows["api_keys"]))
        self.consents = settings.consents(rows)

    def _update(self, accounts: settings.Accounts, changed: Iterable[dict[str, Any]]) -> None:
        valid = accounts.principals(changed)
        self._keys.update(valid, (k["digest"] for k in changed if k["digest"] not in valid))
