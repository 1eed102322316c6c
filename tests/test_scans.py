"""The scans of `make check` fire on a planted fault, and on nothing sound."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import scans


class Advisories(BaseHTTPRequestHandler):
    """An advisory service that knows one fault of one version."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        faulty = asked["package"]["name"] == "planted" and asked["version"] == "1.0"
        fault = {
            "id": "OSV-PLANTED-1",
            "summary": "planted",
            "affected": [],
            "published": "2026-01-01T00:00:00Z",
        }
        body = json.dumps({"vulns": [fault]} if faulty else {}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write no log line."""


@pytest.fixture
def service() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Advisories)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    server.server_close()


def test_the_audit_fires_on_a_planted_fault_and_on_no_other(service: str, tmp_path: Path) -> None:
    pinned = tmp_path / "constraints.txt"
    pinned.write_text("planted==1.0\nsound==2.0\n")
    assert scans.audit(pinned, service) == (["planted 1.0: OSV-PLANTED-1"], True)
    pinned.write_text("planted==1.1\nsound==2.0\n")
    assert scans.audit(pinned, service) == ([], True)


def test_an_audit_without_a_service_says_so(tmp_path: Path) -> None:
    pinned = tmp_path / "constraints.txt"
    pinned.write_text("planted==1.0\n")
    assert scans.audit(pinned, "http://127.0.0.1:9/v1/query")[1] is False


def test_the_secret_scan_fires_on_planted_secrets_and_not_on_a_hash(tmp_path: Path) -> None:
    key = tmp_path / "key.py"
    key.write_text(
        "token = 'ghp_" + "a1B2" * 9 + "'\nPEM = '''-----BEGIN RSA " + "PRIVATE KEY-----'''\n"
    )
    found = scans.secrets([key], tmp_path)
    assert {line.rpartition(": ")[2] for line in found} == {"GitHub Token", "Private Key"}
    sound = tmp_path / "sound.py"
    sound.write_text("digest = '" + "0af3" * 16 + "'\n")
    assert scans.secrets([sound], tmp_path) == []
