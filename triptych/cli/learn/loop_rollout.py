"""The verbs of `triptych learn` that put a candidate before users, and take it back."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from triptych.cli.learn import loop_places as places

if TYPE_CHECKING:
    from triptych.errors import TriptychError
    from triptych.learning.loop.controller import Place, Turn
    from triptych.learning.loop.schedule import Scheduler

_TRAIN_ROUND_S = 600.0


def _start(args: argparse.Namespace) -> int:
    from triptych.errors import LearningError
    from triptych.learning.lineage import Thing
    from triptych.learning.loop.rollout import STATE_FILE, Limits, Rollout
    from triptych.learning.loop.status import read_status
    from triptych.learning.loop.training import read_session

    place = places.place(args)
    verdict = read_status(place).verdict
    if not args.ungated and (verdict is None or verdict["outcome"] != "better"):
        raise LearningError(
            "the gate did not say better"
            + (f": {verdict['reason']}" if verdict else "; nothing was measured yet"),
            hint="triptych learn gate PLAN CASES BEFORE AFTER; or start it with --ungated",
        )
    traffic = place.traffic(places.gateway(args))
    limits = Limits(**places.numbers(Limits(), args.limit), approve=args.approve)
    with place.lock():
        open_one = (place.folder / STATE_FILE).exists()
        if not open_one or Rollout(place.folder, traffic.move).state.is_over:
            traffic.check(args.champion, args.challenger)
        begun = Rollout.begin(
            place.folder, traffic.move, args.champion, args.challenger, limits,
            started_at=time.time(),
        )  # fmt: skip
    session = read_session(place.folder)
    if session is not None and session.state == "done":
        name = session.run.rsplit("/", 1)[-1]
        places.lineage().add(Thing("release", begun.state.id), [Thing("adapter", name)])
    return _show(args, asdict(begun.state))


def _shadow(args: argparse.Namespace) -> int:
    from triptych.durable import read_jsonl
    from triptych.errors import LearningError
    from triptych.learning.loop.training import newest_dataset
    from triptych.wire.tiers import challenger_of

    held_out = newest_dataset(places.place(args).folder) / "held_out.jsonl"
    rows = list(read_jsonl(held_out))[: args.n]
    if not rows:
        raise LearningError(
            "no question is held out", hint="make a larger data set: triptych learn dataset"
        )
    gateway, failed = places.gateway(args), 0
    for at, row in enumerate(rows, 1):
        try:
            gateway.ask(challenger_of(args.tier), row["messages"], company=args.company)
        except LearningError as error:
            failed += 1
            print(f"{row['id']}: {error.message}", file=sys.stderr)
        print(f"\r{at} of {len(rows)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if args.json:
        places.print_json({"asked": len(rows), "failed": failed})
    else:
        print(f"{len(rows)} questions asked, {failed} without an answer")
    return 0


def _decide(args: argparse.Namespace) -> int:
    from triptych.learning.loop.controller import decide

    turn = decide(places.place(args), places.gateway(args))
    more: dict[str, Any] = {}
    if turn.decision is not None and turn.arms is not None:
        champion, challenger = turn.arms
        more = {
            "decision": asdict(turn.decision),
            "arms": {"champion": asdict(champion), "challenger": asdict(challenger)},
        }
    return _show(args, {**asdict(turn.state), **more})


def _watch(args: argparse.Namespace) -> int:
    """Decide about every rollout until a signal; each change and each new error is one line."""
    import signal
    import threading

    from triptych.learning.loop.controller import watch

    stop, shown = threading.Event(), dict[str, str]()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())

    def tell(place: Place, text: str) -> None:
        if shown.get(place.folder.name) != text:
            shown[place.folder.name] = text
            print(f"{place.folder.name}: {text}", flush=True)

    def on_turn(turn: Turn) -> None:
        state = turn.state
        tell(turn.place, f"{state.stage} {state.share:.0%}: {state.reason}")

    def on_error(place: Place, error: TriptychError) -> None:
        tell(place, error.message)

    with contextlib.closing(_scheduler(args)) as scheduler:
        watch(
            places.root(), lambda: places.gateway(args), stop, interval_s=args.interval,
            on_turn=on_turn, on_error=on_error, on_round=lambda: _train_round(args, scheduler),
        )  # fmt: skip
    return 0


def _train_round(args: argparse.Namespace, scheduler: Scheduler) -> None:
    """Let the scheduler have its turn, at most once in ten minutes, where training is wanted."""
    from triptych.errors import TriptychError
    from triptych.learning.loop.controller import places as places_of

    if args.train is None or time.monotonic() < scheduler.next_s:
        return
    scheduler.next_s = time.monotonic() + _TRAIN_ROUND_S
    try:
        for name, due in scheduler.turn(places_of(places.root()), time.time()).items():
            print(f"{name}: {'training starts' if due.starts else 'no training'}: {due.reason}")
    except TriptychError as error:
        print(f"training: {error.message}")
    sys.stdout.flush()


def _scheduler(args: argparse.Namespace) -> Scheduler:
    from triptych.learning.loop.schedule import Budget, Scheduler, is_busy

    budget = Budget(args.hours * 3600, args.pause_above)

    def commands(place: Place) -> tuple[list[str], list[str]]:
        learn = [sys.executable, "-m", "triptych", "learn"]
        where = ["--tier", place.tier, *(["--company", place.company] if place.company else [])]
        where += ["--gateway", args.gateway] if args.gateway else []
        train = ["train", "--base", str(args.train), "--pause-above", str(args.pause_above)]
        return [*learn, "dataset", *where], [*learn, *train, *where]

    return Scheduler(places.root(), budget, lambda: is_busy(places.gateway(args), budget), commands)


def _steer(args: argparse.Namespace) -> int:
    from triptych.learning.loop.rollout import Rollout

    place = places.place(args)
    traffic = place.traffic(places.gateway(args))
    with place.lock():
        # Going back is written down also while the gateway is away and an earlier move is owed.
        rollout = Rollout(place.folder, traffic.move, settle=args.verb != "back")
        if args.verb == "back":
            rollout.back()
        elif args.verb == "approve":
            rollout.approve()
        else:
            rollout.hold(args.verb == "hold")
    return _show(args, asdict(rollout.state))


def _status(args: argparse.Namespace) -> int:
    """Show the state on disk, and whether the gateway serves it; change nothing."""
    from triptych.errors import LearningUnavailable, UsageError
    from triptych.learning.loop.status import read_status

    place = places.place(args)
    status = read_status(place)
    agrees: bool | None = None
    if status.rollout is not None:
        try:
            agrees = place.traffic(places.gateway(args)).agrees(status.rollout)
        except (LearningUnavailable, UsageError) as error:
            print(f"triptych: {error.message}", file=sys.stderr)
    if args.json:
        rollout = asdict(status.rollout) if status.rollout else {}
        places.print_json({
            **rollout, "traffic_agrees": agrees, "steps": [asdict(one) for one in status.steps],
            "dataset": status.dataset, "verdict": status.verdict,
            "session": asdict(status.session) if status.session else None,
        })  # fmt: skip
        return 0
    for step in status.steps:
        needs = f" (needs {step.needs} more)" if step.needs else ""
        print(f"  {step.state:8} {step.name:9} {step.sentence}{needs}")
    if agrees is False:
        print("  the gateway's flag says otherwise: triptych learn decide says what follows")
    return 0


def _show(args: argparse.Namespace, state: dict[str, Any]) -> int:
    if args.json:
        places.print_json(state)
        return 0
    held = ", held" if state["held"] else ""
    print(f"{state['stage']} {state['share']:.0%}{held}: {state['reason']}")
    print(f"  champion {state['champion']}, challenger {state['challenger']}")
    return 0


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "start": _start, "shadow": _shadow, "decide": _decide, "watch": _watch, "status": _status,
    "hold": _steer, "release": _steer, "approve": _steer, "back": _steer,
}  # fmt: skip
