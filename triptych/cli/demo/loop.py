"""The loop in the demo: some corrections, a candidate made of them, and the gate's verdict."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych.cli.demo.tour import Tour

UPSTREAM = "openai-compatible"
QUESTIONS = (
    ("Which file sets up the colours?", "The file theme.py sets them up."),
    ("Which file opens the window?", "The file window.py opens it."),
    ("Which file reads the settings?", "The file settings.py reads them."),
    ("Which file writes the log?", "The file journal.py writes it."),
)
# Four answers on a busy machine say nothing of a model's speed.
LIMITS = ("--limit", "latency_ratio=5")
GENERAL = "It is a truth universally acknowledged that a program does what its author wrote. " * 4


def show_loop(tour: Tour, base: str, key: str) -> None:
    """Correct four answers, make a candidate of them, and let the gate decide."""
    tour.title("11. What people say makes the next model, if it is better")
    tour.say("Four answers are corrected by a reviewer. The company agreed that they are kept.")
    admin = (tour.home / "gateway" / "admin-key").read_text(encoding="utf-8").strip()
    consent = {"purpose": "improve", "granted": True, "company_id": "acme"}
    _call(base, admin, "PUT", "/api/consent", consent)
    for question, answer in QUESTIONS:
        request_id = _asked(base, key, question)
        body = {"kind": "correction", "value": answer, "request_id": request_id}
        _call(base, admin, "POST", "/api/feedback", body)
    where = ("--gateway", base)
    if not tour.attempt("learn", "dataset", "--user-share", "1", *where):
        return
    tour.say("Too few to train on. As examples in a prompt they are a candidate all the same:")
    few = ("--champion", UPSTREAM, "--examples", "2")
    if tour.attempt("learn", "prompt", *few, *where) and _measured(tour, where):
        tour.next_steps.append(
            ("triptych learn status", "where the loop stands, and what is missing")
        )


def _measured(tour: Tour, where: tuple[str, ...]) -> bool:
    """Measure both models by a plan that is written first, and show the verdict."""
    folder = tour.home / "demo-loop"
    folder.mkdir(parents=True, exist_ok=True)
    plan = folder / f"plan-{time.strftime('%Y%m%d-%H%M%S')}.json"
    cases, general = folder / "cases.json", folder / "general.txt"
    rows = [
        {"id": f"c{at}", "slice": "files", "prompt": question.lower(), "reference": answer[4:-1]}
        for at, (question, answer) in enumerate(QUESTIONS)
    ]
    cases.write_text(json.dumps(rows), encoding="utf-8")
    general.write_text(GENERAL, encoding="utf-8")
    if not tour.attempt("learn", "plan", plan, "--target", "files", *LIMITS):
        return False
    for name, model in (("before", "base"), ("after", "base.challenger")):
        if not tour.attempt(
            "learn", "measure", plan, cases, folder / f"{name}.json", "--model", model,
            "--general", general, "--max-tokens", "16", *where,
        ):  # fmt: skip
            return False
    tour.say("The plan was written before anything ran. The gate says what four cases can show:")
    tour.attempt("learn", "gate", plan, cases, folder / "before.json", folder / "after.json")
    return True


def _asked(base: str, key: str, question: str) -> str:
    body = {
        "model": "base", "max_tokens": 16, "messages": [{"role": "user", "content": question}],
    }  # fmt: skip
    return _call(base, key, "POST", "/v1/chat/completions", body)[0]


def _call(base: str, key: str, method: str, path: str, body: Any) -> tuple[str, Any]:
    request = urllib.request.Request(  # noqa: S310  # an address of ours
        base + path, data=json.dumps(body).encode(), method=method,
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return str(answer.headers["x-request-id"]), json.load(answer)
