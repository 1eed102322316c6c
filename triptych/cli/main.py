"""The entry point: find the command, run it, turn errors into words and exit codes.

Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 remote unavailable, 130 interrupted.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from triptych import __version__
from triptych.cli import COMMANDS, GROUPS
from triptych.errors import TriptychError, UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(argv)
    except TriptychError as error:
        print(f"triptych: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ntriptych: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`); closing quietly is what it expects.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"triptych {__version__}")
        return 0
    name, *rest = argv
    command = COMMANDS.get(name)
    if command is None or not available(name):
        nearest = difflib.get_close_matches(name, [n for n in COMMANDS if available(n)], n=1)
        raise UsageError(
            f"no command {name!r}",
            hint=f"did you mean `triptych {nearest[0]}`?" if nearest else "see `triptych --help`",
        )
    module = importlib.import_module(f"triptych.cli.{command.module}")
    parser = argparse.ArgumentParser(
        prog=f"triptych {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    code: int = module.run(_parse(parser, rest))
    return code


def _parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Let options stand between a list of settings, where the command has no verbs of its own."""
    verbs = any(isinstance(action, argparse._SubParsersAction) for action in parser._actions)
    return parser.parse_args(words) if verbs else parser.parse_intermixed_args(words)


def available(name: str) -> bool:
    """Return whether a command of the table is part of this installation."""
    place = Path(__file__).parent.joinpath(*COMMANDS[name].module.split("."))
    return place.is_dir() or place.with_suffix(".py").exists()


def overview() -> str:
    """Draw the table of commands, grouped by what a person wants to do."""
    lines = ["Triptych: grow your own language models, in three tiers, on your own machine.", ""]
    for group, title in GROUPS.items():
        rows = [(n, c) for n, c in COMMANDS.items() if c.group == group and available(n)]
        if rows:
            lines.append(f"{title}:")
            lines += [f"  triptych {name:<13} {command.summary}" for name, command in rows]
            lines.append("")
    lines.append("`triptych COMMAND --help` explains one. Start with: triptych demo")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
