"""Releases of the cards: immutable folders with a manifest, and one that is served.

A release folder holds nothing that names a company, a time or its own number, so that the same
companies make the same bytes. Who was counted stands in `lineage/`, which only the administrator
reads. Left out: counting and the audit.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.durable import AppendLog, atomic_folder, read_jsonl, write_atomic
from triptych.errors import LearningError
from triptych.learning.abstraction.cards import Card

FORMAT = 1
CARDS, MANIFEST = "cards.jsonl", "manifest.json"


@dataclass(frozen=True)
class Release:
    """A release as it is served."""

    number: int
    manifest: Mapping[str, Any]
    cards: tuple[Card, ...]

    @property
    def name(self) -> str:
        """Return the number with the start of the hash of the cards."""
        return f"{self.number}-{self.manifest['cards_sha256'][:12]}"


class Releases:
    """Every release below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.log = self.folder / "releases.jsonl"
        self._pointer = self.folder / "current"

    def publish(
        self,
        cards: Sequence[Card],
        facts: Mapping[str, Any],
        lineage: Mapping[str, Any],
        report: Mapping[str, Any],
    ) -> Release:
        """Write a release and serve it from now on."""
        number = 1 + max((entry["number"] for entry in self.entries()), default=0)
        lines = "".join(json.dumps(card.as_json(), ensure_ascii=False) + "\n" for card in cards)
        manifest = {
            "format": FORMAT,
            **facts,
            "cards": len(cards),
            "cards_sha256": hashlib.sha256(lines.encode()).hexdigest(),
        }
        with atomic_folder(self._folder(number)) as folder:
            (folder / CARDS).write_text(lines, "utf-8")
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
        write_atomic(self.folder / "audits" / f"{number:04d}.json", json.dumps(report, indent=1))
        write_atomic(self._lineage(number), json.dumps(lineage, indent=1), private=True)
        self._note(
            number, "published", cards=len(cards), companies=facts["companies"],
            rules=facts["rules"],
        )  # fmt: skip
        write_atomic(self._pointer, f"{number}\n")
        return self.load(number)

    def current(self) -> Release | None:
        """Return the release that is served; None where there is none."""
        number = self.served()
        return None if number is None else self.load(number)

    def served(self) -> int | None:
        """Return the number of the release that is served; numbers are never used again."""
        try:
            return int(self._pointer.read_text("utf-8"))
        except FileNotFoundError:
            return None

    def load(self, number: int) -> Release:
        """Return a release.

        Raises: LearningError where it is gone or its cards were changed.
        """
        folder = self._folder(number)
        try:
            data = (folder / CARDS).read_bytes()
            manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        except FileNotFoundError as error:
            raise LearningError(
                f"there is no release {number}", hint="list them: triptych abstraction releases"
            ) from error
        if manifest.get("format") != FORMAT:
            raise LearningError(f"{folder} is of format {manifest.get('format')}")
        if hashlib.sha256(data).hexdigest() != manifest["cards_sha256"]:
            raise LearningError(f"{folder / CARDS} is not what was released", hint="build again")
        cards = tuple(Card.from_json(json.loads(line)) for line in data.splitlines())
        return Release(number, manifest, cards)

    def path(self, number: int) -> Path:
        """Return the folder of a release."""
        return self._folder(number)

    def last_rules(self) -> dict[str, Any]:
        """Return the rules of the last build that published; empty where there was none."""
        for entry in reversed(self.entries()):
            if "rules" in entry:
                return dict(entry["rules"])
        return {}

    def entries(self) -> list[dict[str, Any]]:
        """Return what happened to releases, oldest first."""
        return list(read_jsonl(self.log))

    def report(self, number: int) -> dict[str, Any]:
        """Return the audit of a release.

        Raises: LearningError where there is none.
        """
        file = self.folder / "audits" / f"{number:04d}.json"
        if not file.is_file():
            raise LearningError(f"release {number} has no audit report")
        report: dict[str, Any] = json.loads(file.read_text("utf-8"))
        return report

    def keep_failed(self, report: Mapping[str, Any]) -> Path:
        """Keep the report of an audit that stopped a release."""
        file = self.folder / "audits" / f"stopped-{time.time_ns()}.json"
        write_atomic(file, json.dumps(report, indent=1))
        return file

    def remove_with(self, company: str) -> list[int]:
        """Remove every release that counted a company, by its opaque id; none is served then."""
        removed = self.counting(company)
        for number in removed:
            file = self._lineage(number)
            if self.served() == number:
                # First: a crash after it leaves a release that is not served, never one that is.
                self._pointer.unlink()
            shutil.rmtree(self._folder(number), ignore_errors=True)
            (self.folder / "audits" / file.name).unlink(missing_ok=True)
            file.unlink()
            self._note(number, "removed")
        return removed

    def counting(self, company: str) -> list[int]:
        """Return the releases that counted a company, by its opaque id."""
        return [
            int(file.stem)
            for file in sorted((self.folder / "lineage").glob("*.json"))
            if company in json.loads(file.read_text("utf-8"))["companies"]
        ]

    def _lineage(self, number: int) -> Path:
        return self.folder / "lineage" / f"{number:04d}.json"

    def _folder(self, number: int) -> Path:
        return self.folder / "releases" / f"{number:04d}"

    def _note(self, number: int, what: str, **facts: Any) -> None:
        with AppendLog(self.log) as log:
            log.append({"number": number, "what": what, "at": time.time(), **facts}, sync=True)
