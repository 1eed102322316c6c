"""The stages of the demo, in order, each an ordinary command run in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from triptych.config import environment
from triptych.errors import UsageError
from triptych.words import clock


class Tour:
    """Hold what the stages share: where things are, and how a command is shown and run."""

    def __init__(self, home: Path, sources: Sequence[str], train_s: float) -> None:
        self.home = home
        self.sources = list(sources)
        self.train_s = train_s
        self.data = home / "data" / "demo"
        self.run_dir = home / "runs" / "demo"
        self.next_steps: list[tuple[str, str]] = []
        self.running = ExitStack()
        self._variables: dict[str, str] = {}
        self._color = sys.stdout.isatty()

    def walk(self, until: str | None) -> int:
        """Run the stages up to and including `until`."""
        from triptych.cli.demo import hub, train

        stages: dict[str, Callable[[Tour], None]] = {"train": train.stage, "hub": hub.stage}
        if until is not None and until not in stages:
            raise UsageError(f"no stage {until!r}", hint=f"stages: {', '.join(stages)}")
        started_s = time.monotonic()
        with self.running:
            for name, stage in stages.items():
                stage(self)
                if name == until:
                    break
        self._farewell(time.monotonic() - started_s)
        return 0

    def title(self, text: str) -> None:
        """Head a stage."""
        print(f"\n{self._paint('1', text)}", flush=True)

    def say(self, text: str) -> None:
        """Explain in a line or two what is about to happen."""
        print(text, flush=True)

    def triptych(self, *arguments: str | Path) -> None:
        """Show a command as a person would type it, run it, and end the demo if it fails."""
        words = self.show(*arguments)
        result = subprocess.run(
            [sys.executable, "-m", "triptych", *words],
            env={**environment.snapshot(), **self._variables},
            check=False,
        )
        if result.returncode:
            # The command has said what is wrong and what to do; its code is the demo's code.
            sys.exit(result.returncode)

    def show(self, *arguments: str | Path) -> list[str]:
        """Show a command as a person would type it; give its words."""
        words = [str(argument) for argument in arguments]
        shown = " ".join(f'"{word}"' if " " in word or not word else word for word in words)
        shown = shown.replace(str(Path.home()), "~")
        print(self._paint("36", f"$ triptych {shown}"), flush=True)
        return words

    def set(self, name: str, value: str) -> None:
        """Set a variable for the commands that follow, and show it."""
        self._variables[name] = value
        print(self._paint("36", f"$ export {name}={value}"), flush=True)

    def keep_aside(self, folder: Path) -> None:
        """Move the result of an earlier demo aside: nothing is lost."""
        if folder.exists():
            stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(folder.stat().st_mtime))
            aside = folder.with_name(f"{folder.name}-{stamp}")
            folder.rename(aside)
            print(f"an earlier demo is kept as {aside.name}")

    def _farewell(self, elapsed_s: float) -> None:
        self.title(f"Done in {clock(elapsed_s)}. What to type next:")
        for command, meaning in self.next_steps:
            print(f"  {self._paint('36', command)}\n      {meaning}")

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._color else text
