"""The verbs of `triptych learn` that make candidates and measure them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from triptych.cli.learn import loop_places as places

if TYPE_CHECKING:
    from triptych.learning.loop.gate import Verdict


def _dataset(args: argparse.Namespace) -> int:
    from triptych.learning.lineage import Thing
    from triptych.learning.loop import erasure
    from triptych.learning.loop.datasets import Options, build
    from triptych.learning.loop.files import known_prompts, read_cases
    from triptych.learning.loop.prompts import active

    place = places.place(args)
    prompts = known_prompts(place.folder, [p for file in args.cases for p in read_cases(file)[1]])
    gateway = places.gateway(args)
    options = Options(
        minimum_rows=args.minimum, user_share=args.user_share,
        system_prompt=active(gateway, args.tier),
    )  # fmt: skip
    judgements = gateway.judgements(args.company)
    made = build(judgements, gate_prompts=prompts, options=options)
    manifest = made.manifest()
    present = [str(one["provenance"]["request_id"]) for one in judgements]
    folder = place.folder / "datasets" / manifest["hash"][:12]
    with place.lock():
        tainted = erasure.walk(place.folder, places.lineage(), present)
        if folder.exists():
            # The newest data set is the one that was made last, also when it was made before.
            (folder / "manifest.json").touch()
        else:
            made.write(folder)
            places.lineage().add(
                Thing("dataset", manifest["hash"]),
                [Thing("record", str(row.provenance.get("request_id")))
                 for row in (*made.train, *made.held_out)],
            )  # fmt: skip
    told = {
        "hash": manifest["hash"], "folder": str(folder), "train": len(made.train),
        "held_out": len(made.held_out), "removed": manifest["removed"],
        "missing_rows": made.missing_rows, "train_anew": list(tainted.adapters or tainted.runs),
    }  # fmt: skip
    if args.json:
        places.print_json(told)
        return 0
    if tainted:
        names = ", ".join(tainted.adapters or tainted.runs)
        print(f"{tainted.records} records are gone that {names} learned from: train anew")
    print(f"{len(made.train)} rows to train on, {len(made.held_out)} held out: {folder}")
    for reason, count in manifest["removed"].items():
        print(f"  removed {count:5}  {reason}")
    enough = f"needs {made.missing_rows} more" if made.missing_rows else "enough to train"
    print(f"  meter   {len(made.train)} of {args.minimum}: {enough}")
    return 0


def _prompt(args: argparse.Namespace) -> int:
    """Write a prompt with examples, enter it for the challenger, and a challenger if none is."""
    from triptych.durable import read_jsonl
    from triptych.learning.lineage import Thing
    from triptych.learning.loop import few_shot, prompts
    from triptych.learning.loop.training import newest_dataset

    place, gateway = places.place(args), places.gateway(args)
    dataset = newest_dataset(place.folder, args.dataset)
    before = prompts.active(gateway, args.tier)
    text = few_shot.prompt(read_jsonl(dataset / "sft.jsonl"), before, args.examples)
    upstream = prompts.challenger(gateway, args.tier, args.champion)
    version = prompts.enter(gateway, args.tier, text)
    manifest = json.loads((dataset / "manifest.json").read_text("utf-8"))
    name = f"prompt-{args.tier}.challenger-{version}"
    places.lineage().add(Thing("adapter", name), [Thing("dataset", manifest["hash"])])
    told = {"prompt": version, "characters": len(text), "upstream": upstream, "text": text}
    if args.json:
        places.print_json(told)
    else:
        print(f"version {version} of the prompt of {args.tier}.challenger, {len(text)} characters")
        print(f"  served by the upstream {upstream}; next: triptych learn measure, gate, start")
    return 0


def _train(args: argparse.Namespace) -> int:
    from triptych.config import environment
    from triptych.learning.lineage import Thing
    from triptych.learning.loop import erasure
    from triptych.learning.loop.schedule import Budget, is_busy
    from triptych.learning.loop.training import newest_dataset, train
    from triptych.lm.train.folder import new_run_id

    place = places.place(args)
    dataset = newest_dataset(place.folder, args.dataset)
    run = args.run_dir or environment.home() / "runs" / new_run_id(f"{args.tier}-{args.method}")
    busy: Callable[[], bool] = lambda: False  # noqa: E731
    if args.pause_above is not None:
        busy = partial(is_busy, places.gateway(args), Budget(requests_a_minute=args.pause_above))
    session = train(
        place.folder, dataset, args.base, run, method=args.method, settings=args.settings,
        force=args.force or bool(erasure.read(place.folder)), busy=busy,
    )  # fmt: skip
    if session.state == "done":
        erasure.trained_anew(place.folder)
        lineage, name = places.lineage(), Path(session.run).name
        lineage.add(Thing("run", name), [Thing("dataset", session.dataset)])
        lineage.add(Thing("adapter", name), [Thing("run", name)])
    if args.json:
        from dataclasses import asdict

        places.print_json(asdict(session))
    else:
        print(f"{session.state}: {session.reason or session.run}")
        if session.state == "done":
            print(f"  serve it: triptych serve {session.base} --adapter candidate={session.run}")
    return 1 if session.state == "failed" else 0


def _plan(args: argparse.Namespace) -> int:
    from triptych.learning.loop.files import write_plan
    from triptych.learning.loop.gate import Plan

    plan = Plan(args.target, **places.numbers(Plan(args.target), args.limit))
    write_plan(args.plan, plan)
    print(json.dumps({"plan": str(args.plan), "hash": plan.hash}) if args.json
          else f"{args.plan}: {plan.hash[:12]}")  # fmt: skip
    return 0


def _measure(args: argparse.Namespace) -> int:
    from triptych.learning.loop import measure
    from triptych.learning.loop.files import read_plan

    plan, questions = read_plan(args.plan), measure.read_questions(args.cases)
    secrets = args.secrets.read_text("utf-8").split("\n") if args.secrets else []
    gateway = places.gateway(args)

    def progress(number: int) -> None:
        print(f"\r{number} of {len(questions)}", end="", file=sys.stderr, flush=True)

    results, measures = measure.run(
        gateway, args.model, questions, company=args.company,
        secrets=[one for one in secrets if one.strip()], max_tokens=args.max_tokens,
        on_answer=progress,
    )  # fmt: skip
    print(file=sys.stderr)
    bpb = args.general_bpb
    if args.general is not None:
        bpb = measure.general_bpb(gateway, args.model, args.general.read_text("utf-8"))
    if bpb is not None:
        measures = replace(measures, general_bpb=bpb)
    measure.write(args.out, plan, args.model, results, measures)
    right = sum(one.right for one in results.values())
    told = {
        "model": args.model, "cases": len(results), "right": right,
        "refused": sum(one.refused for one in results.values()),
        "leaked": sum(one.leaked for one in results.values()),
        "general_bpb": bpb, "latency_s": measures.latency_s, "file": str(args.out),
    }  # fmt: skip
    if args.json:
        places.print_json(told)
    else:
        print(f"{right} of {len(results)} right, {told['refused']} refused: {args.out}")
        if bpb is None:
            print("  forgetting was not measured, so the gate cannot pass: --general FILE")
    return 0


def _gate(args: argparse.Namespace) -> int:
    from triptych.errors import LearningError
    from triptych.learning.loop.gate import EXIT_ERROR

    try:
        verdict = _verdict(args)
    except LearningError as error:
        # An error is no verdict: a script must not take it for "not better".
        print(f"triptych: {error}", file=sys.stderr)
        return EXIT_ERROR
    if args.json:
        places.print_json(verdict.as_json())
        return verdict.exit_code
    print(f"{verdict.outcome.replace('_', ' ')}: {verdict.reason}")
    if verdict.change:
        print(f"  what would change it: {verdict.change}")
    for one in verdict.slices:
        print(f"  {one.name:20} {one.cases:5} cases  {one.before:4.0%} -> {one.after:4.0%}  "
              f"({one.change.low:+.0%} to {one.change.high:+.0%}, p = {one.p:.3f})")  # fmt: skip
    for case in verdict.worst:
        print(f"  lost {case['id']}: {case['before'][:60]!r} -> {case['after'][:60]!r}")
    return verdict.exit_code


def _verdict(args: argparse.Namespace) -> Verdict:
    from triptych.durable import write_atomic
    from triptych.learning.loop.files import read_cases, read_plan, read_results
    from triptych.learning.loop.gate import judge
    from triptych.learning.loop.rollout import plain
    from triptych.learning.loop.status import VERDICT_FILE

    plan = read_plan(args.plan)
    cases, _ = read_cases(args.cases)
    before, old = read_results(args.before, plan)
    after, new = read_results(args.after, plan)
    verdict = judge(plan, cases, before, after, (old, new))
    file = places.place(args).folder / VERDICT_FILE
    write_atomic(file, json.dumps(plain(verdict.as_json()), indent=1, sort_keys=True) + "\n")
    return verdict


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "dataset": _dataset, "prompt": _prompt, "train": _train, "plan": _plan, "measure": _measure,
    "gate": _gate,
}  # fmt: skip
__all__ = ["VERBS"]
