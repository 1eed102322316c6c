"""The containers of `deploy/`: each command is run as a process, each file is read by its program.

Prometheus and helm have no package here, so of their files only the form is checked.
"""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from programs import require
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from triptych.processes import free_port
from triptych.tiers.pipeline.telemetry import Metrics
from triptych.tiers.store.database import Database

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ADMIN = "tri_" + "0123456789abcdefABCDEF" * 2
GIVEN = {
    "POSTGRES_PASSWORD": "p",
    "GATEWAY_PASSWORD": "g",
    "TRIPTYCH_SECRETS_KEY": "A" * 43 + "=",
    "TRIPTYCH_GATEWAY_ADMIN_KEY": ADMIN,
}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return found


def given(service: dict[str, Any], replaced: dict[str, str]) -> dict[str, str]:
    """Return a service's environment with its variables filled in and its hosts replaced."""
    filled = {}
    for name, value in service.get("environment", {}).items():
        for variable, known in GIVEN.items():
            value = re.sub(r"\$\{" + variable + r"[^}]*\}", known, value)
        for old, new in replaced.items():
            value = value.replace(old, new)
        filled[name] = value
    return filled


def until(condition: Callable[[], Any], process: subprocess.Popen[bytes]) -> Any:
    for _ in range(900):
        try:
            if found := condition():
                return found
        except OSError:
            pass
        assert process.poll() is None
        time.sleep(0.1)
    raise AssertionError("it did not get ready")


def test_the_files_of_compose_are_well_formed() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec",
         str(DEPLOY / "compose.yaml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.database
@pytest.mark.needs("haproxy")
@pytest.mark.needs("redis-server")
async def test_every_command_of_the_containers_runs_and_a_request_passes_from_tls_to_the_record(
    services: dict[str, Any], postgres: str, tmp_path: Path
) -> None:
    role = (DEPLOY / "postgres.sql").read_text().replace(":password", "'g'")
    admin = Database(postgres)
    async with admin.engine.connect() as raw:
        raw = await raw.execution_options(isolation_level="AUTOCOMMIT")
        await raw.execute(text("DROP DATABASE IF EXISTS triptych WITH (FORCE)"))
        await raw.execute(text("DROP ROLE IF EXISTS triptych"))
        for statement in re.sub(r"^--.*$", "", role, flags=re.M).split(";"):
            if statement.strip():
                await raw.execute(text(statement))
    await admin.close()
    address = admin.url.set(database="triptych", username="triptych", password="g")
    ports = {name: free_port() for name in ("redis", "one", "two", "tls", "plain")}
    started: list[subprocess.Popen[bytes]] = []

    def begin(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        log = (tmp_path / f"{len(started)}.log").open("wb")
        process = subprocess.Popen(command, env=os.environ | environment, stderr=log, stdout=log)
        started.append(process)
        return process

    try:
        program, *rest = services["redis"]["command"]
        begin([require(program), *rest, "--port", str(ports["redis"])], {})
        for name, place in (("gateway-1", "one"), ("gateway-2", "two")):
            environment = given(services[name], {"redis:6379": f"127.0.0.1:{ports['redis']}"})
            environment |= {
                "TRIPTYCH_GATEWAY__HOST": "127.0.0.1",
                "TRIPTYCH_GATEWAY__PORT": str(ports[place]),
                "TRIPTYCH_GATEWAY__DATABASE_URL": address.render_as_string(hide_password=False),
                "TRIPTYCH_GATEWAY__WORKERS": "1",
                "TRIPTYCH_HOME": str(tmp_path / place),
            }
            assert services[name]["command"][0] == "triptych"
            process = begin([sys.executable, "-m", *services[name]["command"]], environment)
            ready = f"http://127.0.0.1:{ports[place]}/ready"
            state = until(lambda url=ready: json.load(urllib.request.urlopen(url)), process)
            assert (state["node"], state["row_level_security"]) == (place, "kept")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
             "-subj", "/CN=localhost", "-keyout", tmp_path / "k", "-out", tmp_path / "c"],
            check=True, capture_output=True,
        )  # fmt: skip
        certificate = tmp_path / "gateway.pem"
        certificate.write_bytes((tmp_path / "c").read_bytes() + (tmp_path / "k").read_bytes())
        program, *rest = services["proxy"]["command"]
        environment = given(services["proxy"], {}) | {
            "LISTEN": f"127.0.0.1:{ports['plain']}", "LISTEN_TLS": f"127.0.0.1:{ports['tls']}",
            "CERTIFICATE": str(certificate), "GATEWAY_1": f"127.0.0.1:{ports['one']}",
            "GATEWAY_2": f"127.0.0.1:{ports['two']}",
        }  # fmt: skip
        paths = [part.replace("/deploy", str(DEPLOY)) for part in rest]
        process = begin([require(program), "-db", *paths], environment)
        trusted = ssl.create_default_context()
        trusted.check_hostname, trusted.verify_mode = False, ssl.CERT_NONE

        def asked(path: str) -> Any:
            request = urllib.request.Request(
                f"https://127.0.0.1:{ports['tls']}{path}",
                headers={"authorization": f"Bearer {ADMIN}"},
            )
            return json.load(urllib.request.urlopen(request, context=trusted))

        until(lambda: asked("/ready"), process)
        assert {"base", "company", "abstraction"} <= {m["id"] for m in asked("/v1/models")["data"]}
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in started:
            process.wait(60)


def test_alerts_and_dashboard_ask_for_metrics_that_there_are() -> None:
    registry: CollectorRegistry = Metrics().registry
    known = {metric.name for metric in registry.collect()}
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    assert config["scrape_configs"][0]["static_configs"][0]["targets"] == [
        "gateway-1:7870", "gateway-2:7870",
    ]  # fmt: skip
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"]
    panels = json.loads((DEPLOY / "dashboard.json").read_text())["panels"]
    asked = [rule["expr"] for rule in rules] + [p["targets"][0]["expr"] for p in panels]
    names = {
        re.sub(r"_(total|bucket|sum|count)$", "", name)
        for expression in asked
        for name in re.findall(r"\b(?:triptych|gen_ai|gateway)_\w+", expression)
    }
    assert len(names) > 6
    labels = {"gen_ai_token_type"}
    assert names - labels <= known


def test_the_chart_uses_only_values_it_declares_and_its_form_holds() -> None:
    values = yaml.safe_load((DEPLOY / "helm" / "values.yaml").read_text())
    template = (DEPLOY / "helm" / "templates" / "gateway.yaml").read_text()
    used = set(re.findall(r"\.Values\.(\w+)", template))
    assert used == set(values)
    shown = re.sub(r"\{\{[^}]*\}\}", "7", template)
    kinds = [part["kind"] for part in yaml.safe_load_all(shown)]
    assert kinds == ["StatefulSet", "Service", "PodDisruptionBudget"]
    chart = yaml.safe_load((DEPLOY / "helm" / "Chart.yaml").read_text())
    assert chart["apiVersion"] == "v2"
