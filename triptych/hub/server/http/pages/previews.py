"""What can be shown of a file without downloading it: text, pictures, the tensors of a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from triptych.hub.server import limits
from triptych.hub.server.http.pages.cards import render_card
from triptych.hub.server.storage.git.reading import Entry, Snapshot
from triptych.hub.server.storage.hub import Hub

_TEXT_BYTES = 512 * 1024
_TENSORS = 2000
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp")


@dataclass(frozen=True)
class Preview:
    """Hold what a page shows of a file; `kind` says which of the rest is filled."""

    kind: str
    text: str = ""
    card: Markup | str = ""
    source: str = ""
    tensors: list[dict[str, Any]] = field(default_factory=list)
    parameters: int = 0


def preview(hub: Hub, here: Snapshot, entry: Entry, base: str) -> Preview:
    """Return what can be shown of a file."""
    lower = entry.path.lower()
    if lower.endswith(_PICTURES):
        return Preview("picture", source=base.replace("%", "/resolve/", 1) + quote(entry.path))
    if lower.endswith(".safetensors"):
        return _tensors(_start(hub, here, entry, limits.TENSOR_HEADER_BYTES))
    if entry.size > _TEXT_BYTES:
        return Preview("large")
    content = _start(hub, here, entry, _TEXT_BYTES)
    if b"\0" in content:
        return Preview("binary")
    text = content.decode(errors="replace")
    if lower.endswith(".md"):
        return Preview("card", text=text, card=render_card(text, base))
    return Preview("text", text=text)


def _start(hub: Hub, here: Snapshot, entry: Entry, most_bytes: int) -> bytes:
    if entry.pointer is None:
        return here.read(entry)[:most_bytes]
    length = min(entry.size, most_bytes)
    return b"".join(hub.objects.read(entry.pointer.sha256, 0, length))


def _tensors(start: bytes) -> Preview:
    """Read the header of a safetensors file: names, types and shapes."""
    if int.from_bytes(start[:8], "little") > len(start) - 8:
        return Preview("large")
    header = limits.read_tensor_header(start)
    if header is None:
        return Preview("binary")
    tensors = [
        {"name": name, "dtype": dtype, "shape": list(shape)}
        for name, dtype, shape in header.tensors[:_TENSORS]
    ]
    return Preview("tensors", tensors=tensors, parameters=header.parameters)
