"""Make a better model from judgements, and serve it only when it is better.

  triptych learn dataset                      judgements become a data set, with what was removed
  triptych learn plan plan.json --target faq  write down what is asked, before anything is run
  triptych learn gate plan.json cases.json before.json after.json   better (0), not (1), unknown (4)
  triptych learn start CHAMPION CHALLENGER    two upstreams of the gateway; no user meets it yet
  triptych learn shadow                       ask the challenger the held-out questions
  triptych learn decide                       decide by what was observed: wait, go on, or back
  triptych learn hold | release | approve     stay at this share; go on
  triptych learn back                         all traffic to the champion, at once
  triptych learn status                       where it stands

Each command acts on one --tier (and --company). The gateway's key is in TRIPTYCH_ADMIN_KEY, or in
TRIPTYCH_HOME/gateway/admin-key.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.wire.tiers import TIERS

if TYPE_CHECKING:
    from triptych.learning.loop.gate import Verdict
    from triptych.learning.loop.gateway import Gateway, Traffic
    from triptych.learning.loop.rollout import Rollout

KEY = "TRIPTYCH_ADMIN_KEY"
ADDRESS = "http://127.0.0.1:7870"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych learn`."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    made = {
        "status": verbs.add_parser("status", help="where the loop of a tier stands"),
        "dataset": verbs.add_parser("dataset", help="make a data set from judgements"),
        "plan": verbs.add_parser("plan", help="write down what is asked of a candidate"),
        "gate": verbs.add_parser("gate", help="is a candidate better, by the plan"),
        "start": verbs.add_parser("start", help="start the rollout of a challenger"),
        "shadow": verbs.add_parser("shadow", help="ask the challenger the held-out questions"),
        "decide": verbs.add_parser("decide", help="decide once by what was observed"),
        "hold": verbs.add_parser("hold", help="stay at the present share"),
        "release": verbs.add_parser("release", help="go on after hold"),
        "approve": verbs.add_parser("approve", help="allow the next share"),
        "back": verbs.add_parser("back", help="return all traffic to the champion now"),
    }
    for parsed in made.values():
        parsed.add_argument("--tier", choices=TIERS, default=TIERS[0], help="default: base")
        parsed.add_argument("--company", help="only this company's judgements and traffic")
        parsed.add_argument("--gateway", metavar="URL", help=f"default {ADDRESS}")
        parsed.add_argument("--json", action="store_true", help="print JSON")
    made["dataset"].add_argument(
        "--cases", type=Path, action="append", default=[], metavar="FILE",
        help="questions of a gate, never trained on; repeatable",
    )  # fmt: skip
    made["dataset"].add_argument("--minimum", type=int, default=200, help="rows worth training")
    made["dataset"].add_argument(
        "--user-share", type=float, default=0.05, help="most of one author, 0 to 1; default 0.05"
    )
    made["plan"].add_argument("plan", type=Path)
    made["plan"].add_argument("--target", required=True, help="the slice that has to get better")
    made["gate"].add_argument("plan", type=Path)
    made["gate"].add_argument("cases", type=Path)
    made["gate"].add_argument("before", type=Path, help="results of what is served")
    made["gate"].add_argument("after", type=Path, help="results of the candidate")
    made["start"].add_argument("champion", help="the upstream that serves the tier")
    made["start"].add_argument("challenger", help="the upstream that offers TIER.challenger")
    for name in ("plan", "start"):
        made[name].add_argument(
            "--limit", action="append", default=[], metavar="NAME=NUMBER",
            help="another limit than the default; repeatable; a wrong name lists them",
        )  # fmt: skip
    made["start"].add_argument("--approve", action="store_true", help="each share needs approval")
    made["shadow"].add_argument("-n", type=int, default=200, help="at most so many questions")


def run(args: argparse.Namespace) -> int:
    """Run one verb; those that change something hold the folder for themselves."""
    from triptych.durable import FolderLock

    verb = {
        "status": _status, "dataset": _dataset, "plan": _plan, "gate": _gate, "start": _start,
        "shadow": _shadow, "decide": _decide, "hold": _steer, "release": _steer, "approve": _steer,
        "back": _steer,
    }[args.verb]  # fmt: skip
    if args.verb in ("status", "plan", "gate", "shadow"):
        return verb(args)
    folder = _folder(args)
    folder.mkdir(parents=True, exist_ok=True)
    with FolderLock(folder / "lock"):
        return verb(args)


def _folder(args: argparse.Namespace) -> Path:
    from triptych.config import environment
    from triptych.errors import UsageError

    folder: Path = environment.home() / "learning" / args.tier
    if args.company is None:
        return folder
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", args.company):
        raise UsageError(f"company {args.company!r} is no id", hint="letters, digits, . _ and -")
    return folder.with_name(f"{args.tier}-{args.company}")


def _gateway(args: argparse.Namespace) -> Gateway:
    from triptych.config import environment
    from triptych.errors import UsageError
    from triptych.learning.loop.gateway import Gateway

    key = environment.secret(KEY)
    file = environment.home() / "gateway" / "admin-key"
    if key is None and not file.exists():
        raise UsageError(f"{KEY} is not set", hint=f"export {KEY}=... with an administrator's key")
    text = key.reveal() if key is not None else file.read_text(encoding="utf-8").strip()
    return Gateway(args.gateway or ADDRESS, text)


def _traffic(args: argparse.Namespace) -> Traffic:
    from triptych.learning.loop.gateway import Traffic

    return Traffic(_gateway(args), args.tier, args.company)


def _numbers(kind: Any, given: list[str]) -> dict[str, Any]:
    """Return NAME=NUMBER settings as fields of a data class.

    Raises: UsageError for a field it does not have, or what is no number.
    """
    from triptych.errors import UsageError

    known = {
        name: type(value) for name, value in asdict(kind).items() if type(value) in (int, float)
    }
    found: dict[str, Any] = {}
    for one in given:
        name, _, text = one.partition("=")
        if name not in known:
            raise UsageError(f"there is no limit {name!r}", hint=f"limits: {', '.join(known)}")
        try:
            found[name] = known[name](text)
        except ValueError as error:
            raise UsageError(
                f"limit {name} = {text!r}", hint=f"a number, as {name}={asdict(kind)[name]}"
            ) from error
    return found


def _dataset(args: argparse.Namespace) -> int:
    from triptych.config import environment
    from triptych.learning.lineage import Lineage, Thing
    from triptych.learning.loop.datasets import Options, build
    from triptych.learning.loop.files import read_cases

    prompts = [prompt for file in args.cases for prompt in read_cases(file)[1]]
    options = Options(minimum_rows=args.minimum, user_share=args.user_share)
    made = build(_gateway(args).judgements(args.company), gate_prompts=prompts, options=options)
    manifest = made.manifest()
    folder = _folder(args) / "datasets" / manifest["hash"][:12]
    if not folder.exists():
        made.write(folder)
        Lineage(environment.home() / "learning" / "lineage.jsonl").add(
            Thing("dataset", manifest["hash"]),
            [Thing("record", str(row.provenance.get("request_id")))
             for row in (*made.train, *made.held_out)],
        )  # fmt: skip
    told = {
        "hash": manifest["hash"], "folder": str(folder), "train": len(made.train),
        "held_out": len(made.held_out), "removed": manifest["removed"],
        "missing_rows": made.missing_rows,
    }  # fmt: skip
    if args.json:
        print(json.dumps(told, indent=1))
        return 0
    print(f"{len(made.train)} rows to train on, {len(made.held_out)} held out: {folder}")
    for reason, count in manifest["removed"].items():
        print(f"  removed {count:5}  {reason}")
    enough = f"needs {made.missing_rows} more" if made.missing_rows else "enough to train"
    print(f"  meter   {len(made.train)} of {args.minimum}: {enough}")
    return 0


def _plan(args: argparse.Namespace) -> int:
    from triptych.learning.loop.files import write_plan
    from triptych.learning.loop.gate import Plan

    plan = Plan(args.target, **_numbers(Plan(args.target), args.limit))
    write_plan(args.plan, plan)
    print(json.dumps({"plan": str(args.plan), "hash": plan.hash}) if args.json
          else f"{args.plan}: {plan.hash[:12]}")  # fmt: skip
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
        print(json.dumps(_plain(verdict.as_json()), indent=1))
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
    from triptych.learning.loop.files import read_cases, read_plan, read_results
    from triptych.learning.loop.gate import judge

    plan = read_plan(args.plan)
    cases, _ = read_cases(args.cases)
    before, old = read_results(args.before, plan)
    after, new = read_results(args.after, plan)
    return judge(plan, cases, before, after, (old, new))


def _start(args: argparse.Namespace) -> int:
    from triptych.learning.loop.rollout import Limits, Rollout

    traffic = _traffic(args)
    limits = Limits(**_numbers(Limits(), args.limit), approve=args.approve)
    begun = _open(args, traffic, or_none=True)
    if begun is None or begun.state.is_over:
        traffic.check(args.champion, args.challenger)
    begun = Rollout.begin(
        _folder(args), traffic.move, args.champion, args.challenger, limits, started_at=time.time()
    )
    return _show(args, begun)


def _open(args: argparse.Namespace, traffic: Traffic, *, or_none: bool = False) -> Rollout | None:
    from triptych.learning.loop.rollout import STATE_FILE, Rollout

    if or_none and not (_folder(args) / STATE_FILE).exists():
        return None
    return Rollout(_folder(args), traffic.move)


def _shadow(args: argparse.Namespace) -> int:
    from triptych.durable import read_jsonl
    from triptych.errors import LearningError
    from triptych.wire.tiers import challenger_of

    sets = sorted((_folder(args) / "datasets").glob("*/held_out.jsonl"),
                  key=lambda file: file.stat().st_mtime)  # fmt: skip
    rows = list(read_jsonl(sets[-1]))[: args.n] if sets else []
    if not rows:
        raise LearningError(
            "no question is held out", hint="make a data set: triptych learn dataset"
        )
    gateway, failed = _gateway(args), 0
    for at, row in enumerate(rows, 1):
        try:
            gateway.answer(challenger_of(args.tier), row["messages"])
        except LearningError as error:
            failed += 1
            print(f"{row['id']}: {error.message}", file=sys.stderr)
        print(f"\r{at} of {len(rows)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(json.dumps({"asked": len(rows), "failed": failed}) if args.json
          else f"{len(rows)} questions asked, {failed} without an answer")  # fmt: skip
    return 0


def _decide(args: argparse.Namespace) -> int:
    traffic = _traffic(args)
    rollout = _open(args, traffic)
    assert rollout is not None
    state = rollout.state
    if not state.is_over and not traffic.agrees(state):
        # The challenger may have been stopped in a hurry: it is never turned on again here.
        rollout.back(f"the flag {traffic.flag} was changed by hand")
        return _show(args, rollout)
    champion, challenger = traffic.observe(state)
    decision = rollout.advance(champion, challenger)
    arms = {"champion": asdict(champion), "challenger": asdict(challenger)}
    return _show(args, rollout, decision=asdict(decision), arms=arms)


def _steer(args: argparse.Namespace) -> int:
    rollout = _open(args, _traffic(args))
    assert rollout is not None
    if args.verb == "back":
        rollout.back()
    elif args.verb == "approve":
        rollout.approve()
    else:
        rollout.hold(args.verb == "hold")
    return _show(args, rollout)


def _status(args: argparse.Namespace) -> int:
    """Show the state on disk, and whether the gateway serves it; change nothing."""
    from triptych.learning.loop.rollout import read_state

    state = read_state(_folder(args))
    agrees = _traffic(args).agrees(state)
    if args.json:
        print(json.dumps(_plain({**asdict(state), "traffic_agrees": agrees}), indent=1))
        return 0
    _line(asdict(state))
    if not agrees:
        print("  the gateway's flag says otherwise: triptych learn decide says what follows")
    return 0


def _show(args: argparse.Namespace, rollout: Rollout, **more: Any) -> int:
    state = asdict(rollout.state)
    if args.json:
        print(json.dumps(_plain({**state, **more}), indent=1))
    else:
        _line(state)
    return 0


def _line(state: dict[str, Any]) -> None:
    held = ", held" if state["held"] else ""
    print(f"{state['stage']} {state['share']:.0%}{held}: {state['reason']}")
    print(f"  champion {state['champion']}, challenger {state['challenger']}")


def _plain(value: Any) -> Any:
    from triptych.learning.loop.rollout import plain

    return plain(value)
