"""The keys of one upstream: they take turns, and one that is refused rests while others go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

#: How long a key rests that was refused for its rate without a time, and one that is wrong.
_BUSY_S = 10.0
_WRONG_S = 300.0

AsHeader = Callable[[str], Mapping[str, str]]


def bearer(key: str) -> Mapping[str, str]:
    """Return the header in which OpenAI and most others take a key."""
    return {"authorization": f"Bearer {key}"}


class Keys:
    """Hand out keys in turn."""

    def __init__(
        self,
        keys: Sequence[str] = (),
        as_header: AsHeader = bearer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = [key for key in keys if key]
        self._as_header = as_header
        self._clock = clock
        self._rests_until_s = dict.fromkeys(self._keys, 0.0)
        self._turn = 0

    def next(self) -> str:
        """Return the key whose turn it is; empty where there is none."""
        for _ in self._keys:
            key = self._keys[self._turn % len(self._keys)]
            self._turn += 1
            if self._rests_until_s[key] <= self._clock():
                return key
        return min(self._keys, key=self._rests_until_s.__getitem__, default="")

    def header(self, key: str) -> Mapping[str, str]:
        """Return the header of a key; none for none."""
        return self._as_header(key) if key else {}

    def another(self, key: str, status: int, wait_s: float | None) -> bool:
        """Return whether another key may do better after this status; this one rests then."""
        if len(self._keys) < 2 or status not in (401, 403, 429):
            return False
        rest_s = _WRONG_S if status != 429 else min(_WRONG_S, wait_s or _BUSY_S)
        now_s = self._clock()
        self._rests_until_s[key] = now_s + rest_s
        return any(until_s <= now_s for until_s in self._rests_until_s.values())

    def hide(self, text: str) -> str:
        """Take the keys out of what an upstream says: some repeat what they were sent."""
        for key in self._keys:
            if key in text:
                text = text.replace(key, "***")
        return text

    def hide_bytes(self, raw: bytes) -> bytes:
        """Do the same for bytes."""
        for key in self._keys:
            if (found := key.encode()) in raw:
                raw = raw.replace(found, b"***")
        return raw
