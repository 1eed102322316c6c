"""Keep hub repositories in step with this checkout, as `sync.toml` says.

Examples:
  triptych sync plan                       what would change, and what another hand changed
  triptych sync apply spaces/acme/chat     one atomic commit
  triptych sync check                      exit 1 and a list when anything differs, for CI
  triptych sync rollback spaces/acme/chat  put back what the last sync replaced
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triptych.hub.manifest import Manifest, Target
    from triptych.hub.sync import Plan

VERBS = ("targets", "plan", "apply", "check", "rollback")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych sync`."""
    parser.add_argument("verb", choices=VERBS)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="repositories; default all")
    parser.add_argument(
        "--manifest", type=Path, default=Path("sync.toml"), help="default sync.toml"
    )
    parser.add_argument("--org", help="fills {org} in the manifest; default HUGGINGFACE_ORG")
    parser.add_argument("--endpoint", help="address of the hub; default HF_ENDPOINT")
    parser.add_argument("--allow-dirty", action="store_true", help="sync what is not committed too")
    parser.add_argument("--force", action="store_true", help="overwrite another hand's changes")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Do one of the five for each target."""
    from triptych.config import environment
    from triptych.hub.manifest import load_manifest

    manifest = load_manifest(args.manifest, org=args.org or environment.get("HUGGINGFACE_ORG"))
    targets = manifest.select(args.targets)
    if args.verb == "targets":
        return _list(targets, as_json=args.json)
    if args.verb == "rollback":
        return _roll_back(args, targets)
    return _plan_each(args, manifest, targets)


def _plan_each(args: argparse.Namespace, manifest: Manifest, targets: tuple[Target, ...]) -> int:
    from triptych.hub.client import Hub
    from triptych.hub.manifest import read_source
    from triptych.hub.sync import apply, plan

    hub = Hub(args.endpoint)
    source = read_source(manifest.root)
    plans = [plan(hub, manifest, t, source, dirty=args.allow_dirty) for t in targets]
    records = []
    for planned in plans:
        record = planned.record()
        if args.verb == "apply":
            record["commit"] = apply(hub, planned, source, force=args.force)
            record["committed"] = record["commit"] != planned.head
        records.append(record)
        if not args.json:
            _show(args.verb, planned, record.get("commit"))
    if args.json:
        _print_json(records)
    return int(args.verb == "check" and not all(planned.in_step for planned in plans))


def _show(verb: str, planned: Plan, commit: str | None) -> None:
    name = planned.target.repo
    if planned.in_step:
        print(f"{name}  in step with {planned.stamp.source_commit[:12]} at {planned.head}")
    elif verb == "apply":
        changes = planned.changes
        print(
            f"{name}  {len(changes.added)} added, {len(changes.changed)} changed, "
            f"{len(changes.deleted)} deleted  {commit}"
        )
    else:
        print(f"{name}  {'drift' if verb == 'check' else 'to do'}:")
        for line in planned.lines():
            print(line)


def _roll_back(args: argparse.Namespace, targets: tuple[Target, ...]) -> int:
    from triptych.errors import UsageError
    from triptych.hub.client import Hub
    from triptych.hub.sync import roll_back

    if not args.targets:
        raise UsageError(
            "name the targets to roll back", hint=f"for example {targets[0].repo}, or several"
        )
    hub = Hub(args.endpoint)
    commits = {str(t.repo): roll_back(hub, t, force=args.force) for t in targets}
    if args.json:
        _print_json([{"repo": repo, "commit": commit} for repo, commit in commits.items()])
        return 0
    for repo, commit in commits.items():
        print(f"{repo}  rolled back  {commit}")
    print("the checkout still has what was rolled back; revert it there too", file=sys.stderr)
    return 0


def _list(targets: tuple[Target, ...], *, as_json: bool) -> int:
    rows = [
        {
            "repo": str(t.repo),
            "repo_id": t.repo.repo_id,
            "space": t.repo.repo_type == "space",
            "smoke": t.smoke,
        }
        for t in targets
    ]
    if as_json:
        _print_json(rows)
        return 0
    for row in rows:
        print(row["repo"])
    return 0


def _print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=2))
