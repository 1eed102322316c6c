"""What one request, push or file may cost the hub: every limit on what strangers send.

A limit is here when input within the allowed size could otherwise cost far more than its size:
patterns, numbers in headers, git objects, YAML, trees, Xet files, pages. Left out: sizes that an
operator sets (`config/hub.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml

from triptych.errors import HubRefused

PATTERNS = 10_000
"""Patterns with wildcards in one `.gitattributes` or `.gitignore`."""
PATTERN_CHARS = 512
PATTERN_FILE_BYTES = 2**20
PATTERN_STEPS = 4_000_000
"""Path segments compared with pattern segments for one request."""
PATTERN_STEPS_PER_FILE = 1_000
"""What each large file of a commit adds to that."""

TENSOR_DIMENSIONS = 16
LARGEST_DIMENSION = 2**63 - 1
TENSOR_HEADER_BYTES = 8 * 2**20
"""What is read of a safetensors header for a page or an answer."""

COMMIT_BYTES = 2**20
TREE_BYTES = 16 * 2**20
PUSHED_OBJECTS = 1_000_000
FILES = 100_000
"""Files of one revision, and files that one push adds or changes."""
GIT_MEMORY_BYTES = 2**30
PUSH_CHECK_S = 120.0
MESSAGE_CHARS = 10_000
"""What lists and pages show of a commit's message; its title is a tenth."""

CARD_BYTES = 65_536
CARD_EVENTS = 20_000
CARD_DEPTH = 64

PAGE_ELEMENTS = 5_000
"""Tags, table cells and nested marks in a README that is laid out; more is shown as text."""

LOG_LINES = 1_000_000
LARGEST_NUMBER = 2**62
"""What a header or a query may name; longer numbers count as this one."""

SMALLEST_XET_CHUNK_BYTES = 8 * 1024


def require_message(*parts: str) -> None:
    """Refuse a commit message that is larger than a pushed commit may be.

    Raises: HubRefused (413).
    """
    if sum(len(part) for part in parts) > COMMIT_BYTES // 4:
        raise HubRefused(413, f"A commit message has at most {COMMIT_BYTES // 4} characters")


def require_object(kind: str, size: int) -> None:
    """Refuse a commit, tag or tree that is too large to be read whole.

    Raises: HubRefused (413).
    """
    most = {"commit": COMMIT_BYTES, "tag": COMMIT_BYTES, "tree": TREE_BYTES}.get(kind)
    if most is not None and size > most:
        raise HubRefused(413, f"a {kind} has {size} bytes; at most {most} are taken")


def require_xet(sizes: Iterable[int], terms: int, most_bytes: int) -> None:
    """Refuse Xet files that are larger than a file may be, or made of too many pieces.

    Raises: HubRefused (413).
    """
    total = sum(sizes)
    if total > most_bytes:
        raise HubRefused(413, f"The files of a shard have {total} bytes; {most_bytes} are allowed")
    if terms > 1024 + total // SMALLEST_XET_CHUNK_BYTES:
        raise HubRefused(413, f"{terms} pieces are too many for {total} bytes")


def read_json(raw: bytes) -> Any:
    """Read JSON that a client sent: no half characters, no NaN, no numbers of endless digits.

    Raises: ValueError, RecursionError.
    """
    value = json.loads(raw, parse_constant=_no_number)
    if b"\\ud" in raw or b"\\uD" in raw:
        # Half of a character cannot be stored, named or sent back.
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def whole(text: str, most: int) -> int | None:
    """Return a whole number of a query or header, at most `most`; None for anything else."""
    if not (text.isascii() and text.isdecimal()):
        return None
    return int(text) if len(text) <= len(str(most)) and int(text) <= most else most


class Steps:
    """Count the work of one request; past the limit the request ends."""

    def __init__(self, most: int, what: str) -> None:
        self.left = most
        self._what = what

    def take(self, count: int) -> None:
        """Count steps.

        Raises: HubRefused (413) when there are none left.
        """
        self.left -= count
        if self.left < 0:
            raise HubRefused(413, f"{self._what} take too long to compare; send fewer")


@dataclass(frozen=True)
class TensorHeader:
    """Hold what the header of a safetensors file says of its tensors."""

    tensors: tuple[tuple[str, str, tuple[int, ...]], ...]
    metadata: dict[str, Any]

    @property
    def parameters(self) -> int:
        """Return the numbers in all tensors together."""
        return sum(self.counts().values())

    def counts(self) -> dict[str, int]:
        """Return the numbers by type."""
        found: dict[str, int] = {}
        for _, dtype, shape in self.tensors:
            product = 1
            for size in shape:
                product *= size
            found[dtype] = found.get(dtype, 0) + product
        return found


def read_tensor_header(start: bytes) -> TensorHeader | None:
    """Read the beginning of a safetensors file; None when it is not one, or not a whole header."""
    length = int.from_bytes(start[:8], "little")
    if not 2 <= length <= len(start) - 8:
        return None
    try:
        header = json.loads(start[8 : 8 + length])
        if not isinstance(header, dict):
            return None
        metadata = header.pop("__metadata__", {})
        tensors = tuple(
            (str(name), str(one["dtype"])[:16], _shape(one["shape"]))
            for name, one in header.items()
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return TensorHeader(tensors, metadata if isinstance(metadata, dict) else {})


def _shape(sizes: object) -> tuple[int, ...]:
    if not isinstance(sizes, list) or len(sizes) > TENSOR_DIMENSIONS:
        raise ValueError("a shape is a short list")
    for size in sizes:
        if type(size) is not int or not 0 <= size <= LARGEST_DIMENSION:
            raise ValueError("a dimension is a whole number")
    return tuple(sizes)


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(text: str) -> Any:
    """Read the YAML of a card, bounded in size, depth and number of values; no aliases.

    Raises: yaml.YAMLError, ValueError, RecursionError.
    """
    if len(text.encode(errors="replace")) > CARD_BYTES:
        raise yaml.YAMLError(f"the metadata is longer than {CARD_BYTES} bytes")
    depth = 0
    # Events are read one by one and never nested, so this pass is safe for any text.
    for number, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed in a card")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > CARD_DEPTH or number > CARD_EVENTS:
            raise yaml.YAMLError(
                f"at most {CARD_EVENTS} values, nested {CARD_DEPTH} deep, are allowed in a card"
            )
    return yaml.load(text, _Loader)  # noqa: S506 - a safe loader


def has_many_elements(text: str) -> bool:
    """Return whether laying out a README would cost more than its size suggests."""
    marks = text.count("<") + text.count("|") // 2 + text.count("`") // 4
    marks += text.count("[") + text.count("*") // 4 + text.count("_") // 4
    deepest = max(
        (len(line) - len(line.lstrip("> \t-+*")) for line in text.splitlines()), default=0
    )
    return marks > PAGE_ELEMENTS or deepest > 200
