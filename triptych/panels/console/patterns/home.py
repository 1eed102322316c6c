"""The abstraction tier of this machine as the pages reach it, and the build that runs.

Left out: what the pages show (`view`), and counting (`learning.abstraction`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.config import environment
from triptych.durable import FolderLock
from triptych.errors import NotFound, TriptychError
from triptych.learning.abstraction.build import LOCK, Home, Outcome
from triptych.learning.abstraction.companies import Reading, read_store
from triptych.learning.abstraction.consents import GatewayConsents, GatewayOrRecorded
from triptych.learning.abstraction.register import Register
from triptych.learning.abstraction.renewal import open_home, renew
from triptych.learning.company.library import Library
from triptych.panels.console.accounts import Accounts, read_accounts
from triptych.panels.web.site import Visit

PATH = "/console/patterns"
COMPANY = PATH + "/companies/{company}"


@dataclass
class Building:
    """A build that runs or has ended."""

    step: str = "starting"
    outcome: Outcome | None = None
    error: TriptychError | None = None
    thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Return whether it has not ended."""
        return self.thread is not None and self.thread.is_alive()

    def say(self, step: str) -> None:
        """Take over what is done now."""
        self.step = step


class Patterns:
    """The abstraction tier's folder, and the one build of this process."""

    def __init__(self) -> None:
        self.building = Building()

    @property
    def folder(self) -> Path:
        """Return the folder of the abstraction tier."""
        return environment.home() / "abstraction"

    @property
    def companies(self) -> Path:
        """Return the folder with each company's documents."""
        return environment.home() / "companies"

    def home(self) -> Home:
        """Return the tier as it is on disk."""
        return open_home(self.folder)

    async def at(self, visit: Visit) -> tuple[Accounts, str]:
        """Return the company that a visit is about.

        Raises: NotFound for a company that is not the visitor's.
        """
        company = str(visit.path["company"])
        accounts = await read_accounts(visit)
        if company not in accounts.companies:
            raise NotFound(f"there is no company {company!r}", hint="choose one of the list")
        return accounts, company

    def start(self, gateway: str, key: str) -> None:
        """Begin a build unless one runs."""
        if self.building.running:
            return
        state = self.building = Building()
        state.thread = threading.Thread(
            target=self._build, args=(state, gateway, key), name="patterns", daemon=True
        )
        state.thread.start()

    def _build(self, state: Building, gateway: str, key: str) -> None:
        recorded = {name: one.consent for name, one in Register(self.folder).members.items()}
        consents = GatewayOrRecorded(GatewayConsents(gateway, key), recorded)
        try:
            with Library(self.companies) as library:
                state.outcome = renew(self.folder, library, consents, say=state.say)
        except TriptychError as error:
            state.error = error

    def preview(self, company: str, names: tuple[str, ...]) -> Reading | None:
        """Return what the documents of a company say now; None where it has none.

        Nothing is kept: this is what an agreement would let leave.
        """
        home = self.home()
        with Library(self.companies) as library:
            if company not in library.companies():
                return None
            with library.store(company) as store:
                return read_store(company, store, home.vocabulary, names)

    def agree(
        self, company: str, consent: str, names: tuple[str, ...], *, industry: str, size: str
    ) -> None:
        """Let a company's practices be counted from the next release on."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FolderLock(self.folder / LOCK):
            home = self.home()
            home.register.agree(company, consent, names=names, industry=industry, size=size)
            home.register.save()

    def strike(self, company: str, practices: tuple[str, ...]) -> None:
        """Leave practices of a company out of the count."""
        with FolderLock(self.folder / LOCK):
            home = self.home()
            home.register.strike(company, practices)
            home.register.save()

    def withdraw(self, company: str) -> list[int]:
        """Take a company out with all it gave. Returns: the releases that were removed."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FolderLock(self.folder / LOCK):
            home = self.home()
            return home.withdraw(company) if company in home.register.members else []


def agrees(history: list[Mapping[str, Any]]) -> tuple[bool, str]:
    """Return whether a company's newest word on patterns is yes, and the name of that consent."""
    rows = [
        row for row in history if row["purpose"] == "abstraction" and row["user_id"] is None
    ]  # fmt: skip
    newest = max(rows, key=lambda row: int(row["consent_id"]), default=None)
    if newest is None:
        return False, ""
    return bool(newest["granted"]), f"company:{newest['consent_id']}"
