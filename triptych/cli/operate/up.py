"""Bring hub, gateway and the three panels up at one address, and keep them up.

  triptych up                 until Ctrl-C or `triptych down`
  triptych up --detach        in the background
  triptych up --port 8000     the panels elsewhere
  triptych up --profile production.toml    PostgreSQL, Redis, other upstreams

Each part is a process of its own and is started again when it dies; its log is under
TRIPTYCH_HOME/logs. Rollouts of `triptych learn` are decided every ten seconds. Everything listens
on this machine only.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triptych.cli.operate.services import Part
    from triptych.processes import Status, Supervisor

READY_S = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych up`."""
    parser.add_argument("--port", type=int, help="port of the panels (7860, or the next free one)")
    parser.add_argument("--detach", action="store_true", help="go on in the background")
    parser.add_argument("--profile", type=Path, help="a TOML file that every part follows")
    parser.add_argument("settings", nargs="*", help="a TOML file, and section.field=value")


def run(args: argparse.Namespace) -> int:
    """Bring everything up and stay until asked to stop."""
    from triptych.cli.operate import services
    from triptych.errors import UsageError

    found = services.read_record()
    if found is not None:
        web = next(part["address"] for part in found[1] if part["name"] == "web")
        raise UsageError(f"it is up already, at {web}", hint="`triptych down` stops it")
    return _detached(args) if args.detach else _stay(args)


def _stay(args: argparse.Namespace) -> int:
    from triptych.cli.operate import services
    from triptych.config import environment, load_config
    from triptych.processes import Identity, Supervisor, bind, free_port

    files = [Path(text) for text in args.settings if "=" not in text]
    profile = args.profile or (files[0] if files else None)
    overrides = [text for text in args.settings if "=" in text]
    config = load_config(profile, overrides)
    home = environment.home()
    for host, port in (
        (config.hub.host, config.hub.port),
        (config.gateway.host, config.gateway.port),
    ):
        bind(host, port).close()  # a taken port is an error with a hint, before anything starts
    web_port = free_port(config.panels.host, args.port or config.panels.port)
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    first = not (home / "hub" / "admin_token").exists()
    with Supervisor(home / "up", on_change=_tell) as supervisor:
        if supervisor.reaped:
            print(f"ended what was left: {', '.join(supervisor.reaped)}", file=sys.stderr)
        carried = services.variables(config) | services.settings(profile, overrides)
        known, introduced = services.introduce(config, web_port, carried)
        carried |= known
        started = services.parts(config, web_port, profile)
        *hubs, gateway, web = started
        now = [*hubs, web] if first and hubs else started
        for part in now:
            supervisor.start(part.command(home, carried), backoff=services.RESTART)
        for hub in hubs:
            _await(hub, supervisor, done)
        if gateway not in now:  # on a first start the hub's token exists only now
            carried |= services.variables(config)
            supervisor.start(gateway.command(home, carried), backoff=services.RESTART)
        for part in (gateway, web):
            _await(part, supervisor, done)
        supervisor.start(
            services.rollouts(gateway.address, home, carried), backoff=services.RESTART
        )
        if introduced:
            services.enter_admin(gateway.address)
        me = Identity.of(_pid())
        assert me is not None
        _welcome(started, home, first=first)
        services.write_record(me, started)
        done.wait()
        print("stopping", file=sys.stderr)
        services.record_path().unlink(missing_ok=True)
    return 0


def _await(part: Part, supervisor: Supervisor, done: threading.Event) -> None:
    """Wait until a part answers.

    Raises: ProcessError with the end of its log.
    """
    from triptych.cli.operate.services import answers
    from triptych.config import environment
    from triptych.errors import ProcessError

    deadline = time.monotonic() + READY_S
    log = environment.home() / "logs" / f"{part.name}.log"
    while not answers(part.health):
        status = supervisor.status(part.name)
        gave_up = status is None or status.restarts >= 2 or status.state == "exited"
        if done.is_set() or gave_up or time.monotonic() > deadline:
            last = " ".join(log.read_text(errors="replace").splitlines()[-3:])
            raise ProcessError(f"the {part.name} did not come up: {last}", hint=f"its log: {log}")
        time.sleep(0.1)


def _welcome(started: list[Part], home: Path, *, first: bool) -> None:
    web = started[-1].address
    print(f"\nTriptych is up: {web}\n")
    for part in started[:-1]:
        print(f"  {part.name:<8} {part.address}")
    print(f"  logs     {home / 'logs'}")
    if (home / "gateway" / "admin-key").exists():
        from triptych.panels.sign_in.one_time import issue

        print(f"\nThis link opens the Console signed in, once, within an hour:\n\n  {issue(web)}\n")
        print("`triptych sign-in` prints another one.")
    if first and (home / "hub" / "admin_token").exists():
        print("This is the first start. Programs sign in with these; only you can read them:")
        print(f"  hub token      {home / 'hub' / 'admin_token'}")
        print(f"  gateway key    {home / 'gateway' / 'admin-key'}")
    if not (home / "gateway.toml").exists():
        print(f"\nNo tiers yet: publish a model, then create them at {web}/tiers")
    print(flush=True)


def _detached(args: argparse.Namespace) -> int:
    """Start the same in a process of its own and wait until it says that it is up."""
    from triptych.cli.operate import services
    from triptych.config import environment
    from triptych.errors import ProcessError
    from triptych.processes import Command, start

    profile = ["--profile", str(args.profile)] if args.profile else []
    words = ["up", *args.settings, *profile, *(["--port", str(args.port)] if args.port else [])]
    log = environment.home() / "logs" / "up.log"
    before = log.stat().st_size if log.exists() else 0
    child = start(Command("up", [sys.executable, "-m", "triptych", *words], log=log))
    while child.alive():
        if services.read_record() is not None:
            with log.open() as file:
                file.seek(before)
                print(file.read(), end="")
            return 0
        time.sleep(0.2)
    with log.open() as file:
        file.seek(before)
        raise ProcessError(f"it did not come up: {file.read().strip()}", hint=f"its log: {log}")


def _tell(status: Status) -> None:
    if status.state in ("waiting", "exited"):
        from triptych.cli.operate.alerts import alert

        print(f"{status.name}: {status.reason}", file=sys.stderr, flush=True)
        alert(f"Triptych: the {status.name} is {status.state}: {status.reason}")


def _pid() -> int:
    import os

    return os.getpid()
