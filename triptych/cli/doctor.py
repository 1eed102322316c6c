"""Check this machine: each finding comes with a remedy. Exit code 1 when something is wrong."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych doctor`."""
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Look at everything once."""
    from triptych.config import load_config

    findings = list(_findings(load_config()))
    if args.json:
        print(json.dumps(findings))
    else:
        for finding in findings:
            print(f"{'ok   ' if finding['ok'] else 'WRONG'} {finding['what']}: {finding['found']}")
            if not finding["ok"]:
                print(f"      {finding['remedy']}")
    return 0 if all(finding["ok"] for finding in findings) else 1


def _findings(config: Any) -> Iterator[dict[str, Any]]:
    yield from _machine()
    yield from _ports(config)
    yield from _hub()
    yield from _gateway(config)


def _finding(what: str, *, ok: bool, found: str, remedy: str = "") -> dict[str, Any]:
    return {"what": what, "ok": ok, "found": found, "remedy": remedy}


def _machine() -> Iterator[dict[str, Any]]:
    import psutil

    from triptych.config import environment
    from triptych.words import size

    home = environment.home()
    there = home
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    yield _finding(
        "disk", ok=free > 2e9, found=f"{size(free)} free for {home}",
        remedy="free some space, or point TRIPTYCH_HOME at a larger disk",
    )  # fmt: skip
    available = psutil.virtual_memory().available
    yield _finding(
        "memory", ok=available > 1.5e9, found=f"{size(available)} available",
        remedy="stop something large, or choose a smaller model",
    )  # fmt: skip
    for program, use in (("git", "the hub's repositories"), ("bwrap", "isolated Spaces")):
        found = shutil.which(program)
        yield _finding(
            program, ok=found is not None or program == "bwrap", found=found or f"absent ({use})",
            remedy=f"install it; it is needed for {use}",
        )  # fmt: skip


def _ports(config: Any) -> Iterator[dict[str, Any]]:
    from triptych.cli.house import answers, parts, read_record
    from triptych.errors import ProcessError
    from triptych.processes import bind

    up = read_record()
    for part in parts(config, config.panels.port):
        port = int(part.address.rpartition(":")[2])
        if up is not None:
            well = answers(part.health)
            yield _finding(
                part.name, ok=well,
                found=f"{'answers' if well else 'does not answer'} at {part.address}",
                remedy=f"read TRIPTYCH_HOME/logs/{part.name}.log",
            )  # fmt: skip
            continue
        try:
            bind("127.0.0.1", port).close()
            yield _finding(f"port {port}", ok=True, found=f"free for the {part.name}")
        except ProcessError as error:
            yield _finding(f"port {port}", ok=False, found=error.message, remedy=error.hint)


def _hub() -> Iterator[dict[str, Any]]:
    from triptych.cli.house import read_record
    from triptych.errors import AccessDenied, HubError
    from triptych.hub.client import Hub

    up = read_record()
    own = next((part["address"] for part in up[1] if part["name"] == "hub"), None) if up else None
    hub = Hub(own)
    try:
        yield _finding("hub token", ok=True, found=f"{hub.whoami()} at {hub.endpoint}")
    except AccessDenied as error:
        yield _finding("hub token", ok=own is None, found=error.message, remedy=error.hint)
    except HubError as error:
        yield _finding("hub", ok=own is None, found=error.message, remedy=error.hint)


def _gateway(config: Any) -> Iterator[dict[str, Any]]:
    from triptych.config import environment

    tiers = environment.home() / "gateway.toml"
    yield _finding(
        "tiers", ok=True,
        found=f"set up in {tiers}" if tiers.exists() else "not set up; see `triptych tiers --help`",
    )  # fmt: skip
    url = config.gateway.database_url
    kind = "PostgreSQL" if url.startswith("postgresql") else "SQLite"
    yield _finding("gateway database", ok=True, found=f"{kind} by configuration")
