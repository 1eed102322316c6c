"""Publish a corpus as a dataset repository: its documents as parquet, its manifest, a card.

What is published loads with `datasets`, and builds the same corpus again: the documents, their
split and the tokenizer. The token shards stay home, being derived. Left out: building a corpus.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from triptych.errors import PublishRefused
from triptych.hub.cards import human_count, table
from triptych.hub.changes import size_bytes
from triptych.hub.client import Hub
from triptych.hub.repository import Content, Repo
from triptych.hub.upload import put_files

# Our split -> the name that users of `datasets` expect.
SPLITS = {"train": "train", "val": "validation"}
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


@dataclass(frozen=True)
class PublishedData:
    """Describe where a corpus was published, and whether anything was new."""

    repo: str
    commit: str
    committed: bool
    fingerprint: str
    url: str
    tag: str | None


def publish_data(
    hub: Hub,
    folder: Path,
    repo: Repo,
    *,
    license: str | None = None,
    languages: tuple[str, ...] = (),
    private: bool = False,
    tag: str | None = None,
) -> PublishedData:
    """Publish a data folder and return the commit it is at.

    Raises: PublishRefused when it is no corpus, or holds documents without a licence
    and is to be public.
    """
    manifest = _manifest(folder)
    unlicensed = manifest.get("licences", {}).get("unknown", 0)
    if unlicensed and not private and license is None:
        raise PublishRefused(
            f"{unlicensed:,} documents of {folder} have no known licence",
            hint="pass --license to say under which you may publish them, or --private",
        )
    content = _content(folder, manifest)
    content["README.md"] = data_card(manifest, repo, license, languages).encode()
    commit, committed = put_files(
        hub,
        repo,
        content,
        f"Publish corpus {manifest['fingerprint'][:12]}",
        stale=lambda path: path.startswith(("documents/", "tokenizer/")),
        private=private,
    )
    if tag:
        hub.tag(repo, tag, commit)
    url = f"{hub.endpoint}/{repo}/tree/{commit}"
    return PublishedData(str(repo), commit, committed, manifest["fingerprint"], url, tag)


def data_card(
    manifest: Mapping[str, Any], repo: Repo, license: str | None, languages: tuple[str, ...]
) -> str:
    """Write the README.md of a dataset repository from the corpus's own manifest."""
    documents = sum(count["documents"] for count in manifest["counts"].values())
    present = [split for split in SPLITS if manifest["counts"].get(split, {}).get("documents")]
    front = {
        "language": list(languages) or None,
        "license": license,
        "task_categories": ["text-generation"],
        "size_categories": [next((name for n, name in _SIZES if documents < n), "n>10M")],
        "tags": ["triptych"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": SPLITS[split], "path": f"documents/{split}.parquet"}
                    for split in present
                ],
            }
        ],
    }
    known = {key: value for key, value in front.items() if value is not None}
    body = "\n".join(_body(manifest, repo, documents))
    return f"---\n{yaml.safe_dump(known, sort_keys=False, allow_unicode=True)}---\n\n{body}\n"


def _body(manifest: Mapping[str, Any], repo: Repo, documents: int) -> Iterator[str]:
    counts = manifest["counts"]
    tokens = sum(count.get("tokens", 0) for count in counts.values())
    yield f"# {repo.repo_id.partition('/')[2]}"
    yield ""
    yield f"A text corpus of {documents:,} documents, {human_count(tokens)} tokens."
    yield ""
    yield "```python"
    yield "from datasets import load_dataset"
    yield ""
    yield f'documents = load_dataset("{repo.repo_id}", split="train")  # or streaming=True'
    yield "```"
    yield ""
    yield "## Splits"
    yield ""
    units = ("documents", "tokens", "bytes")
    yield from table(
        ("split", *units),
        [(SPLITS[s], *(f"{counts[s].get(u, 0):,}" for u in units)) for s in SPLITS if s in counts],
    )
    split = manifest.get("split") or {}
    if "by" in split:
        yield ""
        yield f"Documents were held out by {split['by']}; none is in both splits."
    yield ""
    yield "## Sources"
    yield ""
    yield from table(
        ("source", "documents", "bytes"),
        [
            (s["source"].rstrip("/").rsplit("/", 1)[-1], f"{s['documents']:,}", f"{s['bytes']:,}")
            for s in manifest.get("sources", ())
        ],
    )
    yield ""
    yield "## Licences"
    yield ""
    licences = manifest.get("licences", {}).items()
    yield from table(("licence", "documents"), [(name, f"{count:,}") for name, count in licences])
    yield ""
    yield "Each row names its own in the column `licence`."
    yield ""
    yield "## Provenance"
    yield ""
    yield f"Data fingerprint `{manifest['fingerprint']}`, seed {manifest.get('seed')}."
    yield "`manifest.json` has what was dropped and why; `tokenizer/` is the tokenizer it was"
    yield "counted with."


def _content(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Content]:
    content: dict[str, Content] = {}
    for split in SPLITS:
        file = folder / "documents" / f"{split}.parquet"
        if manifest["counts"].get(split, {}).get("documents"):
            if not file.is_file() or size_bytes(file) == 0:
                raise PublishRefused(f"{folder} lacks {file.name}", hint="build the corpus again")
            content[f"documents/{split}.parquet"] = file
    for file in sorted((folder / "tokenizer").glob("*")):
        if file.is_file():
            content[f"tokenizer/{file.name}"] = file
    shown = json.dumps(_without_folders(manifest), indent=2, ensure_ascii=False)
    return {**content, "manifest.json": f"{shown}\n".encode()}


def _without_folders(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Keep of each source only its own name: the folders above it are private."""
    sources = [
        {**source, "source": source["source"].rstrip("/").rsplit("/", 1)[-1]}
        if Path(source["source"]).is_absolute()
        else source
        for source in manifest.get("sources", ())
    ]
    return {**manifest, "sources": sources}


def _manifest(folder: Path) -> dict[str, Any]:
    file = Path(folder) / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if not (manifest["fingerprint"] and manifest["counts"]):
            raise KeyError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PublishRefused(
            f"{folder} is no corpus", hint="build one: triptych data build SOURCE --out DIR"
        ) from error
    return manifest
