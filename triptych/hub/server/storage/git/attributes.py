"""Which files git-lfs takes, by `.gitattributes`; which uploads are skipped, by `.gitignore`."""

from __future__ import annotations

from collections.abc import Iterable

import pathspec

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

    def __init__(self, content: bytes) -> None:
        self.content = content
        self._spec = _spec(line for line in _lfs_patterns(content))

    def is_large(self, path: str) -> bool:
        """Return whether git-lfs would take this path."""
        return self._spec.match_file(path)

    def with_paths(self, paths: list[str]) -> bytes:
        """Return the content with a line for each path that is not covered yet."""
        missing = [path for path in sorted(set(paths)) if not self.is_large(path)]
        separator = b"" if not self.content or self.content.endswith(b"\n") else b"\n"
        lines = "".join(f"{_escape(p)} filter=lfs diff=lfs merge=lfs -text\n" for p in missing)
        return self.content + (separator + lines.encode() if lines else b"")


def ignores(content: str) -> pathspec.PathSpec[pathspec.Pattern]:
    """Read a `.gitignore`."""
    return _spec(content.splitlines())


def _spec(lines: Iterable[str]) -> pathspec.PathSpec[pathspec.Pattern]:
    return pathspec.PathSpec.from_lines("gitignore", lines)


def _lfs_patterns(content: bytes) -> list[str]:
    patterns = []
    for line in content.decode(errors="replace").splitlines():
        pattern, _, attributes = line.strip().partition(" ")
        if pattern and not pattern.startswith(("#", "[")) and "filter=lfs" in attributes.split():
            patterns.append(pattern.replace("[[:space:]]", "?"))
    return patterns


def _escape(path: str) -> str:
    """Write a path so that it is no pattern; spaces and quotes have no other spelling there."""
    text = "".join(f"\\{c}" if c in "*?[\\!#" else c for c in path)
    return text.replace(" ", "[[:space:]]").replace('"', "?")
