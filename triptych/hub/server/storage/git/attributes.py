"""Which files git-lfs takes, by `.gitattributes`; which uploads are skipped, by `.gitignore`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TypeVar

from triptych.errors import HubRefused
from triptych.hub.server import limits
from triptych.hub.server.limits import Steps
from triptych.hub.server.storage.git.patterns import Pattern, plain_text

# What a new repository starts with: the formats models and data come in.
_LARGE = (
    "7z arrow avro bin bz2 ckpt ftz gguf gz h5 joblib lz4 mlmodel model msgpack npy npz onnx ot"
    " parquet pb pickle pkl pt pth rar safetensors tar tflite tgz wasm xz zip zst"
    " pcm sam raw aac flac mp3 ogg wav bmp gif png tiff jpg jpeg webp mp4 webm"
)
INITIAL = "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n"
    for pattern in [*(f"*.{suffix}" for suffix in _LARGE.split()), "saved_model/**/*", "*tfevents*"]
).encode()


class Attributes:
    """Answer which paths are large files according to a `.gitattributes`."""

    def __init__(self, content: bytes, steps: Steps | None = None) -> None:
        self.content = content
        self._steps = steps or Steps(limits.PATTERN_STEPS, "The patterns of .gitattributes")
        rules = list(_filters(content))
        # Uploads name large files one by one; those are found without comparing.
        self._named: dict[str, tuple[int, bool]] = {}
        wild = []
        for at, (text, large) in enumerate(rules):
            plain = plain_text(text)
            if plain is None:
                wild.append((text, (at, large)))
            else:
                self._named[plain] = (at, large)
        self._patterns = _compiled(wild, ".gitattributes")

    def is_large(self, path: str) -> bool:
        """Return whether git-lfs would take this path: the last line that fits decides."""
        names = path.split("/")
        best = max(self._named.get(f"/{path}", (-1, False)), self._named.get(path, (-1, False)))
        if len(names) > 1:
            best = max(best, self._named.get(names[-1], (-1, False)))
        for pattern, rule in reversed(self._patterns):
            if rule[0] < best[0]:
                break
            if pattern.matches(names, self._steps):
                best = rule
                break
        return best[1]

    def with_paths(self, paths: list[str]) -> bytes:
        """Return the content with a line for each path that is not covered yet."""
        # Each path came with a file, so comparing grows with the upload and not beyond it.
        self._steps.left += limits.PATTERN_STEPS_PER_FILE * len(paths)
        missing = [path for path in sorted(set(paths)) if not self.is_large(path)]
        separator = b"" if not self.content or self.content.endswith(b"\n") else b"\n"
        lines = "".join(f"{_escape(p)} filter=lfs diff=lfs merge=lfs -text\n" for p in missing)
        return self.content + (separator + lines.encode() if lines else b"")


class Ignored:
    """Answer which paths a `.gitignore` leaves out."""

    def __init__(self, content: str) -> None:
        self._steps = Steps(limits.PATTERN_STEPS, "The patterns of .gitignore")
        self._patterns = _compiled(map(_ignore_rule, content.splitlines()), ".gitignore")

    def match_file(self, path: str) -> bool:
        """Return whether a file is ignored, by itself or with a folder it is in."""
        names = path.split("/")
        return any(
            self._matches(names[:depth], is_folder=depth < len(names))
            for depth in range(1, len(names) + 1)
        )

    def _matches(self, names: list[str], *, is_folder: bool) -> bool:
        for pattern, (ignored, folders_only) in reversed(self._patterns):
            if folders_only and not is_folder:
                continue
            if pattern.matches(names, self._steps):
                return ignored
        return False


_Rule = TypeVar("_Rule")


def _compiled(rules: Iterable[tuple[str, _Rule]], name: str) -> list[tuple[Pattern, _Rule]]:
    """Return patterns with their rules, refusing more than may be compared."""
    kept = [(text, rule) for text, rule in rules if text]
    if len(kept) > limits.PATTERNS:
        raise HubRefused(413, f"{name} has more than {limits.PATTERNS} patterns")
    return [(Pattern(text), rule) for text, rule in kept]


def _ignore_rule(line: str) -> tuple[str, tuple[bool, bool]]:
    """Return the pattern of a line, whether it ignores, and whether it is for folders only."""
    text = line.rstrip("\r")
    while text.endswith((" ", "\t")) and not text.endswith(("\\ ", "\\\t")):
        text = text[:-1]
    if text.startswith("#"):
        return "", (False, False)
    ignored = not text.startswith("!")
    text = text.removeprefix("!")
    return text.removesuffix("/"), (ignored, text.endswith("/"))


_BLANKS = " \t\r\f\v"
_SPLIT = re.compile(f"[{_BLANKS}]+")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_LONGEST_LINE = 2048


def _filters(content: bytes) -> Iterator[tuple[str, bool]]:
    """Yield each pattern that says something of `filter`, and whether it says `lfs`.

    Source: git's `gitattributes(5)` and `attr.c`: blanks are spaces and tabs, a quoted pattern is
    as in C, `-filter` and `!filter` take it back, `[attr]name` names a set of attributes.
    """
    macros: dict[str, list[str]] = {}
    if len(content) > limits.PATTERN_FILE_BYTES:
        raise HubRefused(413, f".gitattributes has more than {limits.PATTERN_FILE_BYTES} bytes")
    for line in content.decode(errors="surrogateescape").split("\n"):
        pattern, states = _attribute_line(line)
        if pattern.startswith("[attr]"):
            macros[pattern.removeprefix("[attr]")] = states
            continue
        # A pattern of `.gitattributes` is never negative, and one for folders fits no file.
        if not pattern or pattern.startswith("!") or pattern.endswith("/"):
            continue
        large: bool | None = None
        for state in states:
            for one in (state, *macros.get(state, ())):
                name, _, value = one.partition("=")
                if name.lstrip("-!") == "filter":
                    large = one == f"filter={value}" and value == "lfs"
        if large is not None:
            yield pattern, large


def _attribute_line(line: str) -> tuple[str, list[str]]:
    text = line.strip(_BLANKS)
    if not text or text.startswith("#") or len(line) >= _LONGEST_LINE:
        return "", []
    if text.startswith('"'):
        pattern, rest = _unquoted(text)
    else:
        pattern, *more = _SPLIT.split(text, maxsplit=1)
        rest = more[0] if more else ""
    return pattern, _SPLIT.split(rest.strip(_BLANKS)) if rest.strip(_BLANKS) else []


def _unquoted(text: str) -> tuple[str, str]:
    """Return what C-style quotes hold and what follows; nothing when they never end."""
    out, at = b"", 1
    while at < len(text):
        letter = text[at]
        at += 1
        if letter == '"':
            return out.decode(errors="surrogateescape"), text[at:]
        if letter != "\\":
            out += letter.encode(errors="surrogateescape")
            continue
        octal = re.compile("[0-3][0-7]{2}").match(text, at)
        if octal:
            out += bytes([int(octal[0], 8)])
            at += 3
        else:
            letter = text[at : at + 1]
            out += _ESCAPES.get(letter, letter).encode(errors="surrogateescape")
            at += 1
    return "", ""


def _escape(path: str) -> str:
    """Write a path so that it is no pattern; spaces and quotes have no other spelling there."""
    text = "".join(f"\\{c}" if c in "*?[\\!#" else c for c in path)
    return text.replace(" ", "[[:space:]]").replace('"', "?")
