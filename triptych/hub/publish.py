"""Publish a checkpoint: what loading it takes, a card from its record, one atomic commit.

Before anything is uploaded, exactly the files to be uploaded are loaded by a fresh process that
must reproduce the recorded loss. Publishing the same checkpoint again commits nothing. Left out:
how a loss is measured; the command for it is handed in.
"""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from triptych.errors import CommitConflict, PublishRefused, RepositoryNotFound, UsageError
from triptych.formatting import format_bytes
from triptych.hub.adapters import AdapterBase, adapter_card, adapter_files, find_base
from triptych.hub.cards import (
    CURVE_FILE,
    EVAL_FILE,
    RECORD_FILE,
    Labels,
    eval_results,
    human_count,
    model_card,
    training_curve,
)
from triptych.hub.changes import compare, sha256, size_bytes
from triptych.hub.client import Hub
from triptych.hub.record import Evaluation, Record, model_files, read_record
from triptych.hub.repository import Content, Repo
from triptych.hub.upload import put_files

MANIFEST = "manifest.json"
# Largest difference of losses that two machines' arithmetic explains, in nats per token.
TOLERANCE = 0.005
DEFAULT_NAME = "{org}/{family}-{size}-{steps}"

# Turns a folder and its record into the command that measures its loss and prints it as JSON.
Gate = Callable[[Path, Record], Sequence[str]]


@dataclass(frozen=True)
class Published:
    """Describe a publication: where, at which commit, and whether anything was new."""

    repo: str
    commit: str
    committed: bool
    url: str
    step: int | None
    tag: str | None
    files: int
    loss: float | None
    verified: bool

    def record(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Options:
    """Hold how to publish, apart from what and where."""

    labels: Labels = field(default_factory=Labels)
    private: bool = False
    tag: str | None = None
    move_tag: bool = False
    with_curve: bool = True
    say: Callable[[str], None] = lambda step: None
    """Called with each step before it is taken."""


def publish(
    hub: Hub, folder: Path, repo: Repo, gate: Gate | None, options: Options | None = None
) -> Published:
    """Publish one checkpoint and return the commit it is at.

    Without a gate, the card's figures are those of the record, unverified.

    Raises: PublishRefused when the folder is no whole checkpoint or fails the gate.
    """
    options = options or Options()
    record = read_record(folder)
    evaluation = record.evaluation
    with tempfile.TemporaryDirectory(prefix="triptych-publish-") as temporary:
        stage = Path(temporary)
        base = find_base(hub, record, options.labels) if record.is_adapter else None
        content = _stage(record, stage, adapter_files(record, base) if base else {})
        if gate is not None and base is not None:
            options.say("a fresh process puts it on its base and measures what it changes")
            check_adapter(gate(stage, record), record)
        elif gate is not None:
            options.say("a fresh process loads it and measures its loss")
            evaluation = check_parity(gate(stage, record), record)
        content |= _documents(record, repo, options, evaluation, base)
        total = sum(size_bytes(one) for one in content.values() if one is not None)
        options.say(f"to {repo}: {len(content)} files of {format_bytes(total)}, in one commit")
        commit, committed = _upload(hub, repo, content, record, options)
    if options.tag:
        hub.tag(repo, options.tag, commit, move=options.move_tag)
    return Published(
        repo=str(repo),
        commit=commit,
        committed=committed,
        url=f"{hub.endpoint}/{repo}/tree/{commit}",
        step=record.step,
        tag=options.tag,
        files=len(content),
        loss=round(evaluation.loss, 4) if evaluation else None,
        verified=gate is not None,
    )


def publish_milestones(
    hub: Hub,
    folders: Mapping[int, Path],
    names: Callable[[Record], Repo],
    gate: Gate | None,
    options: Options | None = None,
) -> list[Published]:
    """Publish several checkpoints of one run, in the order they were reached.

    Where all have one repository, each becomes a commit of its own with the tag `step-N`, and a
    milestone whose tag exists already is left as it is.

    Raises: CommitConflict when a tag holds other weights than this run's.
    """
    options = options or Options()
    repos = {step: names(read_record(folder)) for step, folder in sorted(folders.items())}
    as_revisions = len(set(repos.values())) < len(repos)
    if as_revisions and len(set(repos.values())) > 1:
        raise UsageError(
            "some milestones have the same repository name, others have not",
            hint="name one repository, or a pattern with {steps} that tells them all apart",
        )
    results = []
    for step, folder in sorted(folders.items()):
        repo, tag = repos[step], f"step-{step}"
        if as_revisions and (there := _already_there(hub, repo, tag, folder)):
            results.append(there)
            continue
        chosen = replace(options, tag=tag if as_revisions else options.tag)
        results.append(publish(hub, folder, repo, gate, chosen))
    if as_revisions and not results[-1].committed and any(r.committed for r in results):
        # An earlier milestone was added later: the branch must end at the newest one again.
        publish(hub, folders[max(folders)], repos[max(repos)], None, options)
    return results


def check_adapter(command: Sequence[str], record: Record) -> None:
    """Put an adapter on its base in a fresh process, where it must act as it was trained.

    Raises: PublishRefused when it does not.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PublishRefused(
            f"a fresh process does not find {record.folder} to act as it was trained:\n"
            + "\n".join(done.stderr.strip().splitlines()[-8:]),
            hint="the adapter would not act for others either",
        )


def check_parity(command: Sequence[str], record: Record) -> Evaluation:
    """Measure the loss in a fresh process and compare it with the recorded one.

    Returns: the recorded evaluation, or the measured one where none was recorded.
    Raises: PublishRefused when the process fails or the losses differ.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PublishRefused(
            f"a fresh process cannot load and evaluate {record.folder}:\n"
            + "\n".join(done.stderr.strip().splitlines()[-8:]),
            hint="the checkpoint would not load for others either",
        )
    measured = _read_evaluation(done.stdout)
    recorded = record.evaluation
    if recorded is None:
        return measured
    if not abs(measured.loss - recorded.loss) <= TOLERANCE:
        raise PublishRefused(
            f"{record.folder} does not reproduce its record: loss {measured.loss:.4f}, "
            f"recorded {recorded.loss:.4f}",
            hint="the files and the run's record do not belong together",
        )
    return recorded


def name_repository(pattern: str, record: Record, *, org: str = "", family: str = "") -> Repo:
    """Fill `{org}`, `{family}`, `{size}` and `{steps}` into a repository name.

    Raises: UsageError when the pattern needs what is not known.
    """
    size = human_count(record.weights.parameters).lower()
    steps = "" if record.step is None else _short_steps(record.step)
    known = {"org": org, "family": family, "size": size, "steps": steps}
    try:
        name = pattern.format(**known)
    except (KeyError, IndexError, ValueError) as error:
        raise UsageError(
            f"cannot read the name pattern {pattern!r}", hint=f"the default is {DEFAULT_NAME}"
        ) from error
    missing = [key for key, value in known.items() if f"{{{key}}}" in pattern and not value]
    if missing:
        raise UsageError(
            f"{pattern} needs {', '.join(missing)}", hint="pass --org and --family, or a full name"
        )
    return Repo.parse(name)


def _short_steps(step: int) -> str:
    return f"{step // 1000}k" if step >= 1000 else str(step)


def _stage(record: Record, stage: Path, written: Mapping[str, bytes]) -> dict[str, Content]:
    """Lay out what is uploaded as a folder of links, with a manifest of its own.

    `written` are files with other contents than the folder's.
    """
    files: dict[str, Path | bytes] = {**model_files(record.folder), **written}
    if not record.is_adapter and not any(
        name in files for name in ("tokenizer.json", "tokenizer.model")
    ):
        raise PublishRefused(
            f"{record.folder} has no tokenizer", hint="the model cannot be used without it"
        )
    content: dict[str, Content] = {}
    for name, file in files.items():
        if isinstance(file, bytes):
            (stage / name).write_bytes(file)
        else:
            (stage / name).symlink_to(file.resolve())
        content[name] = file
    facts = {
        name: {
            "bytes": size_bytes(file),
            "sha256": record.weights.files.get(name) or sha256(file),
        }
        for name, file in sorted(files.items())
    }
    manifest = _json({"format_version": 1, "files": facts})
    (stage / MANIFEST).write_bytes(manifest)
    return {**content, MANIFEST: manifest}


def _documents(
    record: Record,
    repo: Repo,
    options: Options,
    evaluation: Evaluation | None,
    base: AdapterBase | None,
) -> dict[str, Content]:
    labels = options.labels
    if base is None:
        card = model_card(record, repo, labels, evaluation)
    else:
        card = adapter_card(record, repo, labels, base)
    documents: dict[str, bytes | None] = {
        "README.md": card.encode(),
        RECORD_FILE: _json(record.public()),
        CURVE_FILE: training_curve(record) if options.with_curve else None,
        EVAL_FILE: None if base else eval_results(record, labels, evaluation),
    }
    return {path: content for path, content in documents.items() if content is not None}


def _upload(
    hub: Hub, repo: Repo, content: Mapping[str, Content], record: Record, options: Options
) -> tuple[str, bool]:
    step = "" if record.step is None else f" of step {record.step:,}"
    run_id = record.run.get("run_id")
    return put_files(
        hub,
        repo,
        content,
        f"Publish checkpoint{step}",
        description=f"Run: {run_id}" if run_id else "",
        # What an earlier publication wrote and this one does not: shards, for instance.
        stale=lambda path: path.endswith(".safetensors") or path == EVAL_FILE,
        private=options.private,
    )


def _already_there(hub: Hub, repo: Repo, tag: str, folder: Path) -> Published | None:
    try:
        commit = hub.tags(repo).get(tag)
    except RepositoryNotFound:
        return None
    if commit is None:
        return None
    record = read_record(folder)
    weights: dict[str, Content] = {name: folder / name for name in record.weights.files}
    if compare(weights, hub.tree(repo, commit)):
        raise CommitConflict(
            f"{repo} has other weights at tag {tag} than {folder}",
            hint="publish to another repository, or delete the tag there first",
        )
    loss = record.evaluation.loss if record.evaluation else None
    return Published(
        repo=str(repo),
        commit=commit,
        committed=False,
        url=f"{hub.endpoint}/{repo}/tree/{commit}",
        step=record.step,
        tag=tag,
        files=len(weights),
        loss=round(loss, 4) if loss is not None else None,
        verified=False,
    )


def _read_evaluation(output: str) -> Evaluation:
    try:
        value = json.loads(output)
        value = value[0] if isinstance(value, list) else value
        loss, bpb = float(value["loss"]), float(value["bpb"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise PublishRefused(
            f"the evaluation printed no loss: {output[:200]!r}",
            hint="it must print JSON with `loss` and `bpb`",
        ) from error
    if not math.isfinite(loss):
        raise PublishRefused(f"the loss is {loss}", hint="this checkpoint is broken")
    return Evaluation(loss, bpb, value.get("tokens"), bool(value.get("whole_split", True)))


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
