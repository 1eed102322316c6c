"""Remember which stages of the demo are finished, so that it goes on after a failure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from triptych.durable import write_atomic

FORMAT_VERSION = 1


class Progress:
    """The finished stages of one demo, in a file; a demo of other text or length starts anew."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, sources: Sequence[str], train_s: float) -> list[str]:
        """Return the stages that a demo of the same text and length has finished."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        wanted = self._record(sources, train_s)
        same = all(found.get(name) == value for name, value in wanted.items())
        return list(found["finished"]) if same else []

    def write(self, sources: Sequence[str], train_s: float, finished: Sequence[str]) -> None:
        """Record the finished stages."""
        record = {**self._record(sources, train_s), "finished": list(finished)}
        write_atomic(self.path, json.dumps(record, indent=2) + "\n")

    def clear(self) -> None:
        """Forget everything."""
        self.path.unlink(missing_ok=True)

    def _record(self, sources: Sequence[str], train_s: float) -> dict[str, object]:
        return {"format_version": FORMAT_VERSION, "sources": list(sources), "train_s": train_s}
