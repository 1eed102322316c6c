"""The files that pages load: scripts, styles and vendored libraries, held in memory.

A file's address contains its hash, so that a browser keeps it for good and an update is seen at
once. `vendor.json` records package, version, licence and SHA-256 of what comes from npm.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from triptych.panels.web import palette
from triptych.panels.web.navigation import ICON

STATIC = Path(__file__).with_name("static")
VENDOR = STATIC / "vendor"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Asset:
    """One file: its bytes, also compressed, and its media type."""

    content: bytes
    compressed: bytes
    media_type: str
    version: str


@cache
def assets() -> dict[str, Asset]:
    """Return every file that pages load, by name."""
    files = {
        path.relative_to(STATIC).as_posix(): path.read_bytes()
        for path in sorted(STATIC.rglob("*"))
        if path.suffix in _TYPES
    }
    files["style.css"] = palette.tokens_css().encode() + files["style.css"]
    # One file: htmx starts by a timer, which may fire before a second script registers itself.
    files["htmx.js"] = b"\n".join(files.pop(f"vendor/{name}.min.js") for name in ("htmx", "hx-sse"))
    files["icon.svg"] = ICON.encode()
    return {name: _asset(name, content) for name, content in files.items()}


def address(name: str) -> str:
    """Return the address of a file, with its version."""
    return f"/static/{name}?v={assets()[name].version}"


async def serve(request: Request) -> Response:
    """Answer with a file."""
    asset = assets().get(request.path_params["name"])
    if asset is None:
        return Response("no such file", 404, media_type="text/plain")
    headers = {"cache-control": _FOREVER, "vary": "accept-encoding"}
    content = asset.content
    if "gzip" in request.headers.get("accept-encoding", ""):
        content = asset.compressed
        headers["content-encoding"] = "gzip"
    return Response(content, headers=headers, media_type=asset.media_type)


def vendored() -> dict[str, dict[str, Any]]:
    """Return the record of the vendored files: package, version, licence and SHA-256 of each."""
    record: dict[str, dict[str, Any]] = json.loads((VENDOR / "vendor.json").read_text("utf-8"))
    return record["files"]


def _asset(name: str, content: bytes) -> Asset:
    kind = _TYPES[Path(name).suffix]
    version = hashlib.sha256(content).hexdigest()[:12]
    return Asset(content, gzip.compress(content, mtime=0), kind, version)
