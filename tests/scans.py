"""Two scans of `make check`: known faults in what we depend on, and secrets in what we publish.

`python tests/scans.py` runs both. The secret scan needs no network. The audit asks an advisory
service (`AUDIT_OSV_URL` names a mirror of OSV's); where none can be reached it says so and passes,
unless `AUDIT_REQUIRED` is set: a build without a network must not fail by it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OSV = "https://api.osv.dev/v1/query"
# Guesses by randomness take every hash of a test for a secret; the others know what they look for.
_LEFT_OUT = ("Base64HighEntropyString", "HexHighEntropyString", "KeywordDetector",
             "BasicAuthDetector", "IPPublicDetector")  # fmt: skip


def audit(requirements: Path, url: str = OSV) -> tuple[list[str], bool]:
    """Return the known faults of pinned requirements, and whether the service answered."""
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", "-r", str(requirements), "--no-deps", "--disable-pip",
         "-s", "osv", "--osv-url", url, "-f", "json", "--progress-spinner", "off",
         "--timeout", "10"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return [done.stderr.strip()[-300:]], False
    faults = [
        f"{one['name']} {one['version']}: {fault['id']}"
        for one in found
        for fault in one.get("vulns", ())
    ]
    return faults, True


def secrets(files: list[Path], root: Path = ROOT) -> list[str]:
    """Return where files hold what looks like a key of a known service, or a private key."""
    options = [part for name in _LEFT_OUT for part in ("--disable-plugin", name)]
    done = subprocess.run(
        [sys.executable, "-m", "detect_secrets", "scan", "--no-verify", *options, *map(str, files)],
        capture_output=True, text=True, check=True, cwd=root,
    )  # fmt: skip
    return [
        f"{path}:{one['line_number']}: {one['type']}"
        for path, found in json.loads(done.stdout)["results"].items()
        for one in found
    ]


def tracked() -> list[Path]:
    """Return the files of the repository."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    return [Path(name) for name in listed.stdout.decode().split("\0") if name]


def main() -> int:
    """Run both scans and print what they find."""
    found = secrets(tracked())
    faults, answered = audit(ROOT / "constraints.txt", os.environ.get("AUDIT_OSV_URL", OSV))
    for line in (*found, *(faults if answered else ())):
        print(line)
    if not answered:
        print("dependency audit: no advisory service can be reached; nothing was audited")
    return 1 if found or (faults and (answered or os.environ.get("AUDIT_REQUIRED"))) else 0


if __name__ == "__main__":
    sys.exit(main())
