"""Turn what a visitor chose into a corpus and a queued run."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.config import Config, environment, load_config
from triptych.errors import UsageError
from triptych.lm.data.build import build_corpus
from triptych.lm.runs.store import Request, Run, RunStore, slug
from triptych.lm.runs.supervisor import check_quota

PRESETS = {"quick": 60.0, "medium": 600.0, "extended": 3600.0}
MIN_TEXT_CHARS = 2000


@dataclass(frozen=True)
class Choice:
    """What the form holds."""

    text: str
    files: Sequence[str] | None
    corpus: str | None
    preset: str
    size: str
    name: str
    advanced: str


def corpora() -> list[tuple[str, str]]:
    """List the corpora under the home folder."""
    folder = environment.home() / "data"
    found = sorted(folder.glob("*/manifest.json")) if folder.is_dir() else []
    return [(path.parent.name, str(path.parent)) for path in found]


def start_run(store: RunStore, config: Config, choice: Choice, user: str = "local") -> Run:
    """Build the corpus if there is none yet, and queue the run.

    Raises: UsageError without text, DataError for text that cannot be learned from, ConfigError
        for a wrong setting, RunError over quota.
    """
    settings = [line.strip() for line in choice.advanced.splitlines() if line.strip()]
    # Checked before anything is built, so that a typing mistake costs nothing.
    load_config(None, settings)
    check_quota(store, config.runs, user, None)
    corpus = _corpus(config, choice)
    chosen = [
        f"train.data={corpus}",
        f"model.size={choice.size}",
        f"train.budget_s={PRESETS[choice.preset]:g}",
        "train.sample_tokens=48",
        *settings,
    ]
    resolved = load_config(None, chosen)
    return store.create(Request.of(resolved, name=choice.name or "untitled", user=user))


def _corpus(config: Config, choice: Choice) -> Path:
    if choice.corpus:
        return Path(choice.corpus)
    sources = [Path(file) for file in choice.files or []]
    if not sources and not choice.text.strip():
        raise UsageError("there is no text to learn from", hint="paste some, or choose a corpus")
    if not sources and len(choice.text) < MIN_TEXT_CHARS:
        raise UsageError(
            f"{len(choice.text):,} characters are too few to learn from",
            hint=f"paste at least {MIN_TEXT_CHARS:,}; a few pages",
        )
    digest = hashlib.sha256(choice.text.encode())
    for source in sources:
        digest.update(source.read_bytes())
    out = environment.home() / "data" / f"{slug(choice.name) or 'pasted'}-{digest.hexdigest()[:8]}"
    if (out / "manifest.json").exists():
        return out
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "text"
        texts.mkdir()
        for number, source in enumerate(sources):
            shutil.copy(source, texts / f"{number}-{source.name}")
        for number, part in enumerate(documents(choice.text)):
            (texts / f"part-{number:04d}.txt").write_text(part, encoding="utf-8")
        vocabulary = 1024 if not sources else config.data.vocab_size
        settings = [f"data.vocab_size={vocabulary}"]
        build_corpus([str(texts)], out, load_config(None, settings).data)
    return out


def documents(text: str, about_chars: int = 2000) -> list[str]:
    """Cut pasted text at paragraph ends into documents, so that some can be held out."""
    parts: list[str] = []
    current = ""
    for paragraph in re.split(r"(?<=\n)\s*\n", text):
        current += paragraph + "\n"
        if len(current) >= about_chars:
            parts.append(current)
            current = ""
    if current.strip():
        parts.append(current)
    return parts
