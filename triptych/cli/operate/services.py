"""The parts of a running Triptych: which processes they are, where they listen, how they are.

`up` writes what it started to TRIPTYCH_HOME/up.json, and `down`, `status` and `doctor` read it.
Left out: starting and watching, which is the one supervisor's work (`triptych.processes`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.config import Config, environment
from triptych.durable import write_atomic
from triptych.errors import ProcessError
from triptych.processes import Backoff, Command, Identity

RESTART = Backoff(first_s=0.1, factor=3.0, ceiling_s=15.0, attempts=1000, healthy_s=30.0)
LOG_BYTES = 16 * 2**20
# The name under which the hub knows the panels.
PANELS = "triptych-panels"


@dataclass(frozen=True)
class Part:
    """One process that `up` starts: its name, its address and its health check."""

    name: str
    address: str
    health: str
    words: tuple[str, ...]

    def command(self, home: Path, variables: dict[str, str]) -> Command:
        """Return the command that the supervisor keeps running."""
        from triptych.processes import Limits

        return Command(
            self.name,
            [sys.executable, "-m", "triptych", *self.words],
            log=home / "logs" / f"{self.name}.log",
            environment=variables,
            limits=Limits(log_bytes=LOG_BYTES),
            grace_s=15.0,
        )


def parts(config: Config, web_port: int, profile: Path | None = None) -> list[Part]:
    """Name the parts in the order in which they need each other.

    Where HF_ENDPOINT names a hub elsewhere, the embedded one is not started.
    """
    own = f"http://{config.hub.host}:{config.hub.port}"
    elsewhere = hub_elsewhere()
    hub = elsewhere or own
    gateway = f"http://{config.gateway.host}:{config.gateway.port}"
    web = f"http://{config.panels.host}:{web_port}"
    tiers = environment.home() / "gateway.toml"
    gateway_words = ["gateway", "serve", "--set", "gateway.allow_private_addresses=true"]
    if profile is not None and config.gateway.upstreams:
        gateway_words += ["--config", str(profile.resolve())]
    elif tiers.exists():
        gateway_words += ["--config", str(tiers)]
    where = ("--gateway", gateway, "--hub", hub, "--port", str(web_port))
    hubs = [] if elsewhere else [Part("hub", own, f"{own}/api/whoami-v2", ("hub", "serve"))]
    return [
        *hubs,
        Part("gateway", gateway, f"{gateway}/health", tuple(gateway_words)),
        Part("web", web, f"{web}/health", ("web", *where)),
    ]


def rollouts(gateway: str, home: Path, variables: dict[str, str]) -> Command:
    """Return the command that decides about rollouts; it listens nowhere."""
    part = Part("learn", gateway, f"{gateway}/health", ("learn", "watch", "--gateway", gateway))
    return part.command(home, variables)


def hub_elsewhere() -> str | None:
    """Return the address of a hub that is not the embedded one, where the environment names it."""
    given = environment.get("HF_ENDPOINT") or ""
    host = urllib.parse.urlsplit(given).hostname
    return given if host and host not in ("127.0.0.1", "localhost", "::1") else None


def settings(profile: Path | None, overrides: Sequence[str]) -> dict[str, str]:
    """Write a profile's plain settings as variables, so that every part follows them."""
    found: dict[str, str] = {}
    if profile is not None:
        with profile.open("rb") as file:
            sections = tomllib.load(file)
        for section, fields in sections.items():
            for field, value in fields.items():
                if isinstance(value, str | bool | int | float):
                    text = str(value).lower() if isinstance(value, bool) else str(value)
                    found[f"TRIPTYCH_{section}__{field}".upper()] = text
    for override in overrides:
        name, _, value = override.partition("=")
        found[f"TRIPTYCH_{name.replace('.', '__')}".upper()] = value
    return found


def variables(config: Config) -> dict[str, str]:
    """Return the environment of the parts: the embedded hub, and its token once there is one."""
    values = environment.snapshot()
    values.setdefault("HF_ENDPOINT", f"http://{config.hub.host}:{config.hub.port}")
    token = environment.home() / "hub" / "admin_token"
    if "HF_TOKEN" not in values and token.exists():
        values["HF_TOKEN"] = token.read_text(encoding="utf-8").strip()
    return values


def introduce(
    config: Config, web_port: int, carried: dict[str, str]
) -> tuple[dict[str, str], bool]:
    """Make the panels known to the embedded hub, so that its accounts can sign in there.

    Returns: what the parts have to know of it, and whether it was the first time.
    """
    hub, file = f"http://{config.hub.host}:{config.hub.port}", config.hub.folder() / "panels.json"
    if hub_elsewhere() or config.panels.sign_in_client:
        return {}, False
    hosts = dict.fromkeys((config.panels.host, "127.0.0.1", "localhost"))
    wanted = {"hub": hub, "back": [f"http://{host}:{web_port}/sign-in/back" for host in hosts]}
    first = not file.exists()
    known = {} if first else json.loads(file.read_text(encoding="utf-8"))
    if {name: known.get(name) for name in wanted} != wanted:
        if not first:
            _hub_client("remove", PANELS, carried=carried)
        told = _hub_client("add", PANELS, *wanted["back"], "--public", carried=carried)
        client = told.partition("OAUTH_CLIENT_ID=")[2].split()[0]
        known = {"format_version": 1, **wanted, "client": client}
        write_atomic(file, json.dumps(known, indent=1))
    return {
        "TRIPTYCH_PANELS__SIGN_IN_CLIENT": known["client"],
        "TRIPTYCH_GATEWAY__IDENTITY_ISSUER": hub,
        "TRIPTYCH_GATEWAY__IDENTITY_CLIENT": known["client"],
    }, first


def _hub_client(*words: str, carried: dict[str, str]) -> str:
    command = [sys.executable, "-m", "triptych", "hub", "client", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=carried)
    if done.returncode:
        raise ProcessError(done.stderr.strip() or f"`{' '.join(command[2:])}` failed")
    return done.stdout


def enter_admin(gateway: str) -> None:
    """Let the embedded hub's first administrator be an admin of the gateway too."""
    try:
        ask_gateway(gateway, "/admin/users", {"user_id": "admin@hub", "role": "admin"})
    except urllib.error.HTTPError as error:
        if error.code != 409:  # entered before
            raise ProcessError(f"the gateway refused admin@hub: {error.code}") from error


def ask_gateway(gateway: str, path: str, body: Any = None, timeout_s: float = 70.0) -> Any:
    """Ask the gateway as its first admin; with a body, to do something.

    Raises: OSError.
    """
    key = (environment.home() / "gateway" / "admin-key").read_text(encoding="utf-8").strip()
    request = urllib.request.Request(  # noqa: S310  # ours
        gateway + path,
        None if body is None else json.dumps(body).encode(),
        {"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
        return json.loads(answer.read())


def answers(address: str, timeout_s: float = 2.0) -> bool:
    """Return whether a server answers there; a refusal is an answer too."""
    try:
        urllib.request.urlopen(address, timeout=timeout_s).close()  # noqa: S310  # ours
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
    return True


def record_path() -> Path:
    """Return where `up` writes what it started."""
    return environment.home() / "up.json"


def write_record(identity: Identity, running: list[Part]) -> None:
    """Record which process started Triptych, and what it started."""
    entries = [{"name": p.name, "address": p.address, "health": p.health} for p in running]
    record = {"format_version": 1, **identity.to_dict(), "parts": entries}
    write_atomic(record_path(), json.dumps(record, indent=1))


def read_record() -> tuple[Identity, list[dict[str, Any]]] | None:
    """Read what is up now; None where nothing is."""
    try:
        record = json.loads(record_path().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    identity = Identity.from_dict(record)
    return (identity, record["parts"]) if identity.alive() else None
