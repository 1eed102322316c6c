"""Make a better model from judgements, and serve it only when it is better.

  triptych learn dataset                      judgements become a data set, with what was removed
  triptych learn prompt                       few corrections: examples in a challenger's prompt
  triptych learn train --base REF             enough rows: a LoRA adapter, trained here
  triptych learn plan plan.json --target faq  write down what is asked, before anything is run
  triptych learn measure plan.json cases.json after.json --model base.challenger
  triptych learn gate plan.json cases.json before.json after.json   better (0), not (1), unknown (4)
  triptych learn start CHAMPION CHALLENGER    two upstreams of the gateway; no user meets it yet
  triptych learn shadow                       ask the challenger the held-out questions too
  triptych learn watch                        decide every 10 s: wait, go on, or back
  triptych learn decide                       the same, once
  triptych learn hold | release | approve     stay at this share; go on
  triptych learn back                         all traffic to the champion, at once
  triptych learn status                       where it stands

Each command acts on one --tier (and --company). The gateway's key is in TRIPTYCH_ADMIN_KEY, or in
TRIPTYCH_HOME/gateway/admin-key.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from triptych.cli.learn.loop_places import ADDRESS
from triptych.wire.tiers import TIERS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych learn`."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    made = {
        name: verbs.add_parser(name, help=text)
        for name, text in {
            "status": "where the loop of a tier stands",
            "dataset": "make a data set from judgements",
            "prompt": "make a challenger's prompt from corrections",
            "train": "train an adapter on the newest data set",
            "plan": "write down what is asked of a candidate",
            "measure": "let a model answer the gate's questions",
            "gate": "is a candidate better, by the plan",
            "start": "start the rollout of a challenger",
            "shadow": "ask the challenger the held-out questions",
            "decide": "decide once by what was observed",
            "watch": "decide about every rollout, again and again",
            "hold": "stay at the present share",
            "release": "go on after hold",
            "approve": "allow the next share",
            "back": "return all traffic to the champion now",
        }.items()
    }
    for parsed in made.values():
        parsed.add_argument("--tier", choices=TIERS, default=TIERS[0], help="default: base")
        parsed.add_argument("--company", help="only this company's judgements and traffic")
        parsed.add_argument("--gateway", metavar="URL", help=f"default {ADDRESS}")
        parsed.add_argument("--json", action="store_true", help="print JSON")
    _candidates(made)
    _gate(made)
    _rollout(made)


def _candidates(made: dict[str, argparse.ArgumentParser]) -> None:
    dataset = made["dataset"]
    dataset.add_argument(
        "--cases", type=Path, action="append", default=[], metavar="FILE",
        help="questions of a gate, never trained on; repeatable",
    )  # fmt: skip
    dataset.add_argument("--minimum", type=int, default=200, help="rows worth training")
    dataset.add_argument(
        "--user-share", type=float, default=0.05, help="most of one author, 0 to 1; default 0.05"
    )
    for name in ("prompt", "train"):
        made[name].add_argument("--dataset", help="its hash; default: the newest")
    made["prompt"].add_argument("--champion", help="the upstream that the challenger is a copy of")
    made["prompt"].add_argument("--examples", type=int, default=8, help="at most; default 8")
    train = made["train"]
    train.add_argument("--base", required=True, help="the weights: a folder, run or owner/name")
    train.add_argument("--method", choices=("sft", "dpo", "kto"), default="sft")
    train.add_argument("--force", action="store_true", help="with fewer rows, or within 7 days")
    train.add_argument(
        "--pause-above", type=float, metavar="N", help="pause while more requests a minute come"
    )
    train.add_argument("--run-dir", type=Path, help="folder of the run; default: a new one")
    train.add_argument("settings", nargs="*", help="train.steps=..., as for `triptych train`")


def _gate(made: dict[str, argparse.ArgumentParser]) -> None:
    for name in ("plan", "measure", "gate"):
        made[name].add_argument("plan", type=Path)
    made["plan"].add_argument("--target", required=True, help="the slice that has to get better")
    for name in ("measure", "gate"):
        made[name].add_argument("cases", type=Path)
    measure = made["measure"]
    measure.add_argument("out", type=Path, help="the file that is written")
    measure.add_argument("--model", required=True, help="base, base.challenger or another name")
    measure.add_argument("--secrets", type=Path, help="planted secrets, one a line")
    measure.add_argument("--max-tokens", type=int, default=256, help="of an answer; default 256")
    bpb = measure.add_mutually_exclusive_group()
    bpb.add_argument("--general", type=Path, help="general text, scored for what is forgotten")
    bpb.add_argument("--general-bpb", type=float, help="bits per byte that were measured elsewhere")
    made["gate"].add_argument("before", type=Path, help="results of what is served")
    made["gate"].add_argument("after", type=Path, help="results of the candidate")


def _rollout(made: dict[str, argparse.ArgumentParser]) -> None:
    made["start"].add_argument("champion", help="the upstream that serves the tier")
    made["start"].add_argument("challenger", help="the upstream that offers TIER.challenger")
    for name in ("plan", "start"):
        made[name].add_argument(
            "--limit", action="append", default=[], metavar="NAME=NUMBER",
            help="another limit than the default; repeatable; a wrong name lists them",
        )  # fmt: skip
    made["start"].add_argument(
        "--ungated", action="store_true", help="also where the gate did not say better"
    )
    made["start"].add_argument("--approve", action="store_true", help="each share needs approval")
    made["shadow"].add_argument("-n", type=int, default=200, help="at most so many questions")
    watch = made["watch"]
    watch.add_argument("--interval", type=float, default=10.0, help="seconds; default 10")
    watch.add_argument("--train", metavar="REF", help="train on full data sets, from these weights")
    watch.add_argument("--hours", type=float, default=4.0, help="of training a week; default 4")
    watch.add_argument(
        "--pause-above", type=float, default=30.0, metavar="N",
        help="no training while more requests a minute come; default 30",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run one verb."""
    from triptych.cli.learn import loop_candidates, loop_rollout

    verbs = {**loop_candidates.VERBS, **loop_rollout.VERBS}
    return verbs[args.verb](args)
