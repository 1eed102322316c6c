"""The parts of a running Triptych: which processes they are, where they listen, how they are.

`up` writes what it started to TRIPTYCH_HOME/up.json, and `down`, `status` and `doctor` read it.
Left out: starting and watching, which is the one supervisor's work (`triptych.processes`).
"""

from __future__ import annotations

import json
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
from triptych.processes import Backoff, Command, Identity

RESTART = Backoff(first_s=0.5, ceiling_s=15.0, attempts=1000, healthy_s=30.0)
LOG_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Part:
    """One process of the house: its name, its address, where it says that it is well."""

    name: str
    address: str
    health: str
    words: tuple[str, ...]

    def command(self, home: Path, variables: dict[str, str]) -> Command:
        """Give the command that the supervisor keeps running."""
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
    elsewhere = _hub_elsewhere()
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


def _hub_elsewhere() -> str | None:
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
    """Give the environment of the parts: the embedded hub, and its token once there is one."""
    values = environment.snapshot()
    values.setdefault("HF_ENDPOINT", f"http://{config.hub.host}:{config.hub.port}")
    token = environment.home() / "hub" / "admin_token"
    if "HF_TOKEN" not in values and token.exists():
        values["HF_TOKEN"] = token.read_text(encoding="utf-8").strip()
    return values


def answers(address: str, timeout_s: float = 2.0) -> bool:
    """Tell whether somebody answers there; a refusal to a stranger is an answer too."""
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
    """Write down who brought the house up, and what."""
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
