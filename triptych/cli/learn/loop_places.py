"""What the verbs of `triptych learn` share: the place, the gateway, limits on the command line."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych.learning.lineage import Lineage
    from triptych.learning.loop.controller import Place
    from triptych.learning.loop.gateway import Gateway

KEY = "TRIPTYCH_ADMIN_KEY"
ADDRESS = "http://127.0.0.1:7870"


def root() -> Path:
    """Return the folder of every loop."""
    from triptych.config import environment

    return environment.home() / "learning"


def place(args: argparse.Namespace) -> Place:
    """Return the place that a command is about, its folder made where it was not there.

    Raises: UsageError for a company that is no id.
    """
    from triptych.errors import UsageError
    from triptych.learning.loop.controller import place_of

    if args.company is not None and not re.fullmatch(
        r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", args.company
    ):
        raise UsageError(f"company {args.company!r} is no id", hint="letters, digits, . _ and -")
    found = place_of(root(), args.tier, args.company)
    found.folder.mkdir(parents=True, exist_ok=True)
    return found


def lineage() -> Lineage:
    """Return the installation's lineage."""
    from triptych.learning.lineage import Lineage

    return Lineage(root() / "lineage.jsonl")


def gateway(args: argparse.Namespace) -> Gateway:
    """Return the gateway with an administrator's key.

    Raises: UsageError where there is no key.
    """
    from triptych.config import environment
    from triptych.errors import UsageError
    from triptych.learning.loop.gateway import Gateway

    key = environment.secret(KEY)
    file = environment.home() / "gateway" / "admin-key"
    if key is None and not file.exists():
        raise UsageError(f"{KEY} is not set", hint=f"export {KEY}=... with an administrator's key")
    text = key.reveal() if key is not None else file.read_text(encoding="utf-8").strip()
    return Gateway(args.gateway or ADDRESS, text)


def numbers(kind: Any, given: list[str]) -> dict[str, Any]:
    """Return NAME=NUMBER settings as fields of a data class.

    Raises: UsageError for a field it does not have, or what is no number.
    """
    from triptych.errors import UsageError

    known = {
        name: type(value) for name, value in asdict(kind).items() if type(value) in (int, float)
    }
    found: dict[str, Any] = {}
    for one in given:
        name, _, text = one.partition("=")
        if name not in known:
            raise UsageError(f"there is no limit {name!r}", hint=f"limits: {', '.join(known)}")
        try:
            found[name] = known[name](text)
        except ValueError as error:
            raise UsageError(
                f"limit {name} = {text!r}", hint=f"a number, as {name}={asdict(kind)[name]}"
            ) from error
    return found


def print_json(value: Any) -> None:
    """Print a value as JSON; NaN becomes null."""
    from triptych.learning.loop.rollout import plain

    print(json.dumps(plain(value), indent=1))
