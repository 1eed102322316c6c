"""One attempt to run one commit of a Space: its folder, its logs, its interpreter, its port."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from triptych.hub.server.spaces.card import Card
from triptych.hub.server.workloads.logs import LogBook


@dataclass
class Instance:
    """Hold what belongs to one attempt.

    `meaning` names everything it was started from, `answering` says that requests may go to it,
    `exchanges` are the requests it has begun to answer.
    """

    name: str
    sha: str
    folder: Path
    build_log: LogBook
    run_log: LogBook
    card: Card = field(default_factory=Card)
    python: Path = Path()
    port: int = 0
    meaning: str = ""
    answering: bool = False
    exchanges: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    def plan(cls, space_folder: Path, uid: str, sha: str, meaning: str = "") -> Instance:
        """Name an attempt; nothing is on disk before `create_folders`."""
        number = secrets.token_hex(4)
        folder = space_folder / number
        logs = folder / "logs"
        return cls(
            name=f"space-{uid}-{number}",
            sha=sha,
            meaning=meaning,
            folder=folder,
            build_log=LogBook(logs / "build.log"),
            run_log=LogBook(logs / "run.log"),
        )

    def create_folders(self) -> None:
        """Create the folders."""
        for part in ("app", "home", "logs"):
            (self.folder / part).mkdir(0o700, parents=True)

    @property
    def app(self) -> Path:
        """Return the folder of the commit's tree."""
        return self.folder / "app"

    @property
    def home(self) -> Path:
        """Return the folder the app may write into."""
        return self.folder / "home"

    def say(self, message: str) -> None:
        """Add a line of the hub's own to the build log."""
        with self.build_log.path.open("a", encoding="utf-8") as file:
            file.write(message.rstrip("\n") + "\n")

    def note(self, message: str) -> None:
        """Add a line of the hub's own to the run log."""
        with self.run_log.path.open("a", encoding="utf-8") as file:
            file.write(message + "\n")

    def carry(self, exchange: asyncio.Task[None]) -> None:
        """Count a request as begun until it is done."""
        self.exchanges.add(exchange)
        exchange.add_done_callback(self.exchanges.discard)

    def break_off(self) -> None:
        """End the requests it is still answering."""
        for exchange in self.exchanges:
            exchange.cancel()

    def close_logs(self) -> None:
        """End the logs; what is in memory of them stays readable."""
        self.build_log.close()
        self.run_log.close()

    def delete(self) -> None:
        """Remove everything the attempt left on disk."""
        shutil.rmtree(self.folder, ignore_errors=True)
