"""Run a command of this program for a user, so that a page can do what a terminal can.

A process of its own can neither slow the page down nor read more than its visitor may. Left out:
what the commands do.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from threading import Thread

from triptych.config import environment
from triptych.errors import UsageError
from triptych.lm.runs.rights import without_tokens
from triptych.panels.visitor import Visitor

# How a command prints an error: its message, then lines with hints and details.
_ERROR, _HINT = "triptych: ", "hint: "
# Called with each line of progress as it comes.
Heard = Callable[[str], None]


def run_triptych(
    arguments: Sequence[str],
    visitor: Visitor,
    timeout_s: float,
    heard: Heard | None = None,
    more: Mapping[str, str] | None = None,
) -> str:
    """Run a command of this program in the visitor's name, and return what it printed.

    `more` is added to the command's environment.

    Raises: UsageError with the command's own words when it fails.
    """
    variables = environment.snapshot()
    if not visitor.is_local:
        variables = without_tokens()
        if visitor.token:
            variables["HF_TOKEN"] = visitor.token.reveal()
    variables.update(more or {})
    said: list[str] = []
    with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "triptych", *arguments],
            env=variables, stdout=printed, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        listener = Thread(target=_listen, args=(process, said, heard), daemon=True)
        listener.start()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise UsageError(
                f"this took longer than {timeout_s:.0f} s", hint="try it with less text"
            ) from error
        finally:
            listener.join(timeout=10)
        if process.returncode:
            raise _failure(said)
        printed.seek(0)
        return printed.read()


def hub_token() -> Mapping[str, str]:
    """Return the variable with the embedded hub's token, where the environment names no other."""
    file = environment.home() / "hub" / "admin_token"
    if environment.get("HF_TOKEN") or not file.exists():
        return {}
    return {"HF_TOKEN": file.read_text("utf-8").strip()}


def _listen(process: subprocess.Popen[str], said: list[str], heard: Heard | None) -> None:
    assert process.stderr is not None
    with process.stderr as lines:
        for line in lines:
            if text := line.strip():
                said.append(text)
                if heard is not None:
                    heard(text)


def _failure(said: Sequence[str]) -> UsageError:
    """Return a command's error: its message and first hint, without the details that follow."""
    started = [at for at, line in enumerate(said) if line.startswith(_ERROR)]
    lines = list(said[started[-1] :] if started else said[-1:])
    message = lines[0].removeprefix(_ERROR) if lines else "it failed"
    hints = (line.removeprefix(_HINT) for line in lines[1:] if line.startswith(_HINT))
    return UsageError(message, hint=next(hints, ""))
