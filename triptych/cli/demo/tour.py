"""The stages of the demo, in order, each an ordinary command run in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from triptych.cli.demo.progress import Progress
from triptych.config import environment
from triptych.errors import ProcessError, TriptychError, UsageError
from triptych.formatting import format_duration
from triptych.processes import Command, start

START_S = 60.0


# What a finished stage leaves that can be used.
WORKS = {
    "train": 'your model (`triptych generate {run} "import "`, `triptych playground`)',
    "hub": "the hub with your model (`triptych hub serve`)",
    "gateway": "the three tiers (`triptych up`)",
}


class _CommandFailed(Exception):
    """A command of the demo ended with this code, having printed why."""

    def __init__(self, returncode: int) -> None:
        super().__init__(returncode)
        self.returncode = returncode


# A stage by its name: how it runs, and what it does again when it finished in an earlier demo.
Stages = Mapping[str, tuple[Callable[["Tour"], None], Callable[["Tour"], None]]]


class Tour:
    """Hold what the stages share: where things are, and how a command is shown and run."""

    def __init__(
        self,
        home: Path,
        sources: Sequence[str],
        train_s: float,
        *,
        own_model_only: bool = False,
    ) -> None:
        self.home = home
        self.own_model_only = own_model_only
        self.progress = Progress(home / "demo.json")
        self.sources = list(sources)
        self.train_s = train_s
        self.data = home / "data" / "demo"
        self.run_dir = home / "runs" / "demo"
        self.next_steps: list[tuple[str, str]] = []
        self.running = ExitStack()
        self._variables: dict[str, str] = {}
        self._color = sys.stdout.isatty()

    def walk(self, stages: Stages, until: str | None, *, again: bool = False) -> int:
        """Run the stages up to and including `until`, past those an earlier demo finished.

        Returns: the exit code; of a stage that failed, its own.
        """
        if until is not None and until not in stages:
            raise UsageError(f"no stage {until!r}", hint=f"stages: {', '.join(stages)}")
        finished = [] if again else self.progress.read(self.sources, self.train_s)
        started_s = time.monotonic()
        with self.running:
            for name, (stage, resume) in stages.items():
                done = name in finished
                if done:
                    self.say(f"{name}: finished before; `triptych demo --again` starts over")
                try:
                    (resume if done else stage)(self)
                except (TriptychError, subprocess.CalledProcessError, _CommandFailed) as error:
                    return self._explain(name, finished, error)
                if not done:
                    finished.append(name)
                    self.progress.write(self.sources, self.train_s, finished)
                if name == until:
                    break
        if len(finished) == len(stages):
            self.progress.clear()  # a demo after a whole one is a new one
        self._farewell(time.monotonic() - started_s)
        return 0

    def _explain(self, stage: str, finished: list[str], error: Exception) -> int:
        """Print which stage failed, what works all the same, and what to type."""
        if isinstance(error, TriptychError):
            print(f"triptych: {error}", file=sys.stderr)
        works = [WORKS[name].format(run=self.run_dir) for name in finished] or ["nothing yet"]
        print(
            f"\nThe demo failed in its stage {stage!r}. What works: {'; '.join(works)}.\n"
            "When the cause above is removed, type `triptych demo` (or `make demo`): it goes on "
            "with this stage. `triptych demo --again` starts over; `triptych doctor` checks this "
            "machine.",
            file=sys.stderr,
        )
        if isinstance(error, _CommandFailed | subprocess.CalledProcessError):
            return error.returncode
        return error.exit_code if isinstance(error, TriptychError) else 1

    def title(self, text: str) -> None:
        """Head a stage."""
        print(f"\n{self._paint('1', text)}", flush=True)

    def say(self, text: str) -> None:
        """Explain in a line or two what is about to happen."""
        print(text, flush=True)

    def triptych(self, *arguments: str | Path, silent: bool = False) -> None:
        """Show a command as a person would type it, run it, and end the demo if it fails.

        With `silent`, what the command prints is not shown.
        """
        words = self.show(*arguments)
        result = subprocess.run(
            self.program(*words),
            env=self.environment(),
            stdout=subprocess.DEVNULL if silent else None,
            check=False,
        )
        if result.returncode:
            # The command has said what is wrong and what to do; its code is the demo's code.
            raise _CommandFailed(result.returncode)

    def attempt(self, *arguments: str | Path) -> bool:
        """Run a command that the demo can go on without; False where it failed."""
        try:
            self.triptych(*arguments)
        except _CommandFailed:
            return False
        return True

    def capture(self, *words: str) -> str:
        """Run a command and give what it printed, without showing anything."""
        return subprocess.run(
            self.program(*words),
            env=self.environment(),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout

    def serve(self, name: str, address: str, *words: str) -> None:
        """Start a server that lives until the demo ends; return when it answers.

        Raises: ProcessError with the end of its log when it does not come up.
        """
        log = self.home / "logs" / f"demo-{name}.log"
        child = start(Command(name, self.program(*words), log, environment=self.environment()))
        self.running.callback(child.stop)
        deadline = time.monotonic() + START_S
        while not _answers(address):
            if not child.alive() or time.monotonic() > deadline:
                last = " ".join(log.read_text(errors="replace").splitlines()[-3:])
                raise ProcessError(f"the {name} did not start: {last}", hint=f"its log is {log}")
            time.sleep(0.1)

    def program(self, *words: str) -> list[str]:
        """Return the command line of one of our commands in a process of its own."""
        return [sys.executable, "-m", "triptych", *words]

    def environment(self) -> dict[str, str]:
        """Return the environment of the commands: this process's, and what the demo set."""
        return {**environment.snapshot(), **self._variables}

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
        self.title(f"Done in {format_duration(elapsed_s)}. What to type next:")
        for command, meaning in self.next_steps:
            print(f"  {self._paint('36', command)}\n      {meaning}")

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._color else text


def _answers(address: str) -> bool:
    """Return whether the address answers at all, whatever the answer."""
    try:
        urllib.request.urlopen(address, timeout=2).close()  # noqa: S310  # an address of ours
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
