"""An adapter as it is published: files that name its base at a commit, and a card that says so.

Nothing of this machine goes along: the base is a repository whose weights are compared with those
the adapter was trained on, or a known package. Left out: the upload itself (`publish`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from triptych.errors import HubError, PublishRefused
from triptych.hub.cards import RECORD_FILE, Labels, provenance, table, training_section
from triptych.hub.client import Hub
from triptych.hub.pull import is_repository
from triptych.hub.record import ADAPTER_CONFIG, ADAPTER_RECORD, Record
from triptych.hub.repository import Repo, split_revision

PACKAGE = "pypi:"


@dataclass(frozen=True)
class AdapterBase:
    """The model that a published adapter belongs to: a repository at a commit, or a package."""

    name: str
    commit: str
    sha256: str

    @property
    def reference(self) -> str:
        """Return what finds this very base again."""
        return f"{self.name}@{self.commit}" if self.commit else self.name

    @property
    def repository(self) -> str | None:
        """Return the repository's name; None for a package."""
        return None if self.name.startswith(PACKAGE) else self.name


def find_base(hub: Hub, record: Record, labels: Labels) -> AdapterBase:
    """Return the base of an adapter, checked against the weights it was trained on.

    Raises: PublishRefused where the base is a folder of this machine, or another model.
    """
    about = _read(record, ADAPTER_RECORD)
    named, sha256 = str(labels.base_model or about["base"]), str(about["base_sha256"])
    if named.startswith(PACKAGE):
        return AdapterBase(named, "", sha256)
    if not is_repository(named):
        raise PublishRefused(
            f"the adapter was trained on {named.rsplit('/', 1)[-1]}, a folder of this machine, "
            "which no one else can open",
            hint="publish the base first, then name it: --base-model OWNER/NAME",
        )
    name, revision = split_revision(named)
    repo = Repo.parse(name)
    commit = hub.head(repo, revision)
    found = _weights_sha256(hub, repo, commit)
    if found != sha256:
        raise PublishRefused(
            f"{repo} at {commit[:12]} has other weights than those the adapter was trained on",
            hint=f"name the repository whose weights have the sha256 {sha256[:16]}...",
        )
    return AdapterBase(repo.repo_id, commit, sha256)


def adapter_files(record: Record, base: AdapterBase) -> dict[str, bytes]:
    """Return the two descriptions of an adapter with its published base in them."""
    config, about = _read(record, ADAPTER_CONFIG), _read(record, ADAPTER_RECORD)
    config |= {"base_model_name_or_path": base.name, "revision": base.commit or None}
    about["base"] = base.reference
    return {ADAPTER_CONFIG: _json(config), ADAPTER_RECORD: _json(about)}


def adapter_card(record: Record, repo: Repo, labels: Labels, base: AdapterBase) -> str:
    """Write the README.md of an adapter's repository."""
    kind = record.run.get("kind")
    values: dict[str, Any] = {
        "language": list(labels.languages) or None,
        "license": labels.license,
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "base_model": base.repository,
        "base_model_relation": "adapter" if base.repository else None,
        "tags": ["triptych", "lora", *([kind] if kind else [])],
        "datasets": [labels.dataset] if labels.dataset else None,
    }
    front = yaml.safe_dump(
        {key: value for key, value in values.items() if value is not None}, sort_keys=False
    )
    sections = (
        _summary(record, repo, base),
        _use(repo, base),
        _shape(record, base),
        training_section(record),
        _scores(record),
        provenance(record),
    )
    body = "\n\n".join("\n".join(lines) for lines in map(list, sections) if lines)
    return f"---\n{front}---\n\n{body}\n"


def _summary(record: Record, repo: Repo, base: AdapterBase) -> Iterator[str]:
    kind = str(record.run.get("kind") or "").upper()
    yield f"# {repo.repo_id.partition('/')[2]}"
    yield ""
    yield f"A LoRA adapter for {base.name}{f', trained by {kind}' if kind else ''}."


def _use(repo: Repo, base: AdapterBase) -> Iterator[str]:
    yield "## How to load it"
    yield ""
    yield f"`triptych generate {repo.repo_id}`, or "
    yield f"`triptych serve {base.reference} --adapter NAME={repo.repo_id}`."
    if base.repository:
        yield ""
        yield "```python"
        yield "from peft import AutoPeftModelForCausalLM"
        yield ""
        yield f'model = AutoPeftModelForCausalLM.from_pretrained("{repo.repo_id}")'
        yield "```"


def _shape(record: Record, base: AdapterBase) -> Iterator[str]:
    config = _read(record, ADAPTER_CONFIG)
    about = _read(record, ADAPTER_RECORD)
    yield "## Adapter"
    yield ""
    yield from table(
        ("", ""),
        [
            ("base", base.name),
            *([("commit of the base", f"`{base.commit}`")] if base.commit else []),
            ("weights of the base", f"sha256 `{base.sha256}`"),
            ("chat template of the base", f"sha256 `{about['template_sha256']}`"),
            ("rank, alpha", f"{config['r']}, {config['lora_alpha']:g}"),
            ("maps", ", ".join(config["target_modules"])),
            ("parameters", f"{record.weights.parameters:,}"),
        ],
    )


def _scores(record: Record) -> Iterator[str]:
    names = {
        "val/loss": "loss of the answers (nats per token)",
        "val/bpb": "bits per byte of the answers",
        "val/margin": "margin of the preferred answer",
        "val/accuracy": "share of preferences kept",
        "val/general_bpb": "bits per byte of general text",
    }
    curve = record.curve
    if not curve:
        return
    before, after = curve[0], curve[-1]
    yield "## Evaluation"
    yield ""
    yield from table(
        ("on held-out rows", "before", "after"),
        [
            (text, f"{before[name]:.4f}", f"{after[name]:.4f}")
            for name, text in names.items()
            if name in before and name in after
        ],
    )
    yield ""
    yield f"The figures of every evaluation are in [{RECORD_FILE}]({RECORD_FILE})."


def _weights_sha256(hub: Hub, repo: Repo, commit: str) -> str:
    """Return the hash of a repository's weights, as adapters name it."""
    tree = hub.tree(repo, commit)
    names = sorted(path for path in tree if path.endswith(".safetensors") and "/" not in path)
    names = ["model.gguf"] if "model.gguf" in tree else names
    hashes = [tree[name].sha256 or "" for name in names]
    if not hashes or not all(hashes):
        raise HubError(f"{repo} at {commit[:12]} has no weights to compare with")
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _read(record: Record, name: str) -> dict[str, Any]:
    file = record.folder / name
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PublishRefused(
            f"{file} cannot be read, so what the adapter belongs to is not known",
            hint="publish a checkpoint of `triptych train --adapter lora`",
        ) from error
    return values


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
