"""Check this machine: each finding comes with a remedy. Exit code 1 when something is wrong."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from typing import Any

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


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
    yield _isolation(config)
    yield from _ports(config)
    yield from _hub()
    yield from _gateway(config)


def _finding(what: str, *, ok: bool, found: str, remedy: str = "") -> dict[str, Any]:
    return {"what": what, "ok": ok, "found": found, "remedy": remedy}


def _machine() -> Iterator[dict[str, Any]]:
    import psutil

    from triptych.config import environment
    from triptych.formatting import format_bytes

    home = environment.home()
    there = home
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    yield _finding(
        "disk", ok=free > 2e9, found=f"{format_bytes(free)} free for {home}",
        remedy="free some space, or point TRIPTYCH_HOME at a larger disk",
    )  # fmt: skip
    available = psutil.virtual_memory().available
    yield _finding(
        "memory", ok=available > 1.5e9, found=f"{format_bytes(available)} available",
        remedy="stop something large, or choose a smaller model",
    )  # fmt: skip
    git = shutil.which("git")
    yield _finding(
        "git", ok=git is not None, found=git or "absent",
        remedy="install it; it is needed for the hub's repositories",
    )  # fmt: skip


def _isolation(config: Any) -> dict[str, Any]:
    """Choose the isolation as the hub would, and report it."""
    from triptych.errors import ConfigError
    from triptych.hub.server.workloads.isolation import INSTALL, choose

    try:
        isolation = choose(config.hub)
    except ConfigError as error:
        return _finding("isolation", ok=False, found=error.message, remedy=error.hint)
    return _finding(
        "isolation", ok=isolation.isolates, found=isolation.describe(),
        remedy=f"{INSTALL}; until then approve commits with: triptych hub approve SPACE COMMIT",
    )  # fmt: skip


def _ports(config: Any) -> Iterator[dict[str, Any]]:
    from triptych.cli.operate.services import answers, parts, read_record
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
    from triptych.cli.operate.services import read_record
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
    from triptych.cli.operate.services import read_record
    from triptych.config import environment

    tiers = environment.home() / "gateway.toml"
    yield _finding(
        "tiers", ok=True,
        found=f"set up in {tiers}" if tiers.exists() else "not set up; see `triptych tiers --help`",
    )  # fmt: skip
    yield _database(config.gateway.database_url)
    is_open = config.panels.sign_in != "all" and config.panels.host not in _LOOPBACK
    yield _finding(
        "sign-in", ok=not is_open,
        found="every client that reaches the panels may use Studio and Playground" if is_open
        else f"asked of those who open {config.panels.sign_in}",
        remedy="set panels.sign_in=all, or listen on this machine only",
    )  # fmt: skip
    up = read_record()
    if up is not None:
        yield from _service(next(p["address"] for p in up[1] if p["name"] == "gateway"))


def _database(url: str) -> dict[str, Any]:
    """Open the gateway's database, and see whether this program knows its form."""
    import asyncio

    from sqlalchemy.exc import SQLAlchemyError

    from triptych.tiers.store import migrations
    from triptych.tiers.store.database import Database

    async def look() -> str | None:
        database = Database(url)
        try:
            return await migrations.current(database)
        finally:
            await database.close()

    kind = "PostgreSQL" if url.startswith("postgresql") else "SQLite"
    remedy = (
        "check gateway.database_url, and that the server runs; triptych gateway serve says more"
    )
    try:
        at = asyncio.run(look())
    except (SQLAlchemyError, OSError) as error:
        found = f"{kind} does not answer: {type(error).__name__}"
        return _finding("gateway database", ok=False, found=found, remedy=remedy)
    newer = at is not None and at > migrations.newest()
    return _finding(
        "gateway database", ok=not newer,
        found=f"{kind}, " + (f"schema {at}" if at else "empty until the gateway starts"),
        remedy="it was written by a newer triptych: upgrade this one",
    )  # fmt: skip


def _service(gateway: str) -> Iterator[dict[str, Any]]:
    """Ask every provider a real question, and look at the flags."""
    from triptych.cli.operate.services import ask_gateway

    try:
        flags = ask_gateway(gateway, "/admin/flags")
        upstreams = ask_gateway(gateway, "/admin/upstreams")["upstreams"]
    except OSError as error:
        yield _finding(
            "gateway", ok=False, found=f"refuses: {error}",
            remedy="was TRIPTYCH_HOME/gateway/admin-key revoked? put another there",
        )  # fmt: skip
        return
    killed = "; killed by the environment: " + ", ".join(flags["killed"]) if flags["killed"] else ""
    yield _finding(
        "flags", ok=not flags["stale"],
        found="stale: the gateway goes on with the last it read" if flags["stale"]
        else f"version {flags['version']}{killed}",
        remedy="check the gateway's database",
    )  # fmt: skip
    for upstream in upstreams:
        name = upstream["name"]
        probe = ask_gateway(gateway, f"/admin/upstreams/{name}/test", {})
        said = probe.get("message") or probe.get("error_code") or "no answer"
        yield _finding(
            f"provider {name}", ok=probe["ok"],
            found=f"answers in {probe['latency_s'] * 1000:,.0f} ms" if probe["ok"] else said,
            remedy=f"look at it in the Console under Spaces: {upstream['address']}",
        )  # fmt: skip
