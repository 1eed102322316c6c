"""One real cycle of the loop: 300 corrections, an adapter, the gate, a start and the way back.

    python benchmarks/loop.py --data ../shared/data --model FOLDER [--steps 60] [--home FOLDER]

A help desk of twelve desks. Users ask what people really asked (CLINC150, CC BY 3.0); a reviewer
corrects each answer to the right desk, or to "I do not know" where no desk has it. SmolLM2-135M is
served by llama.cpp behind a gateway of its own, trained by `triptych learn train`, and measured on
other people's wordings. Nothing is chosen after the result is known; it is written as it was.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import report

DESKS = {
    "pto_request": "leave desk", "payday": "payroll desk", "direct_deposit": "transfer desk",
    "rollover_401k": "pension desk", "taxes": "tax desk", "insurance": "insurance desk",
    "schedule_meeting": "calendar desk", "book_flight": "travel desk",
    "report_fraud": "fraud desk", "credit_limit": "credit desk", "pin_change": "card desk",
    "spending_history": "accounts desk",
}  # fmt: skip
PROMPT = (
    "You are the front desk. The desks are: " + ", ".join(DESKS.values()) + ". Name the one desk "
    "that helps with the question. If none does, say that you do not know. Answer other "
    "questions shortly."
)
GENERAL = [
    ("What is the capital of France?", "Paris"), ("What is the capital of Italy?", "Rome"),
    ("What is the capital of Spain?", "Madrid"), ("What is the capital of Japan?", "Tokyo"),
    ("What is the capital of Germany?", "Berlin"), ("What is the capital of Egypt?", "Cairo"),
    ("Which planet do we live on?", "Earth"), ("What colour is the sky on a clear day?", "blue"),
    ("Which animal says meow?", "cat"), ("Which animal barks?", "dog"),
    ("What is frozen water called?", "ice"), ("Which star gives the Earth light?", "Sun"),
    ("What do bees make?", "honey"), ("What is the opposite of hot?", "cold"),
    ("What is the opposite of up?", "down"), ("Which month comes after January?", "February"),
    ("Which day comes after Monday?", "Tuesday"), ("Who wrote Romeo and Juliet?", "Shakespeare"),
    ("In which country is the Eiffel Tower?", "France"), ("Which ocean is the largest?", "Pacific"),
    ("What gas do we breathe in to live?", "oxygen"), ("Which metal rusts?", "iron"),
    ("What is the chemical formula of water?", "H2O"), ("What is the largest planet?", "Jupiter"),
    ("What language is spoken in Brazil?", "Portuguese"), ("Who painted the Mona Lisa?", "Vinci"),
    ("What colour is grass?", "green"), ("What do cows drink as calves?", "milk"),
    ("In which country is Rome?", "Italy"), ("Which season follows winter?", "spring"),
    ("What is the currency of the United States?", "dollar"), ("Who was the first president of the "
    "United States?", "Washington"), ("Which animal is called the king of the jungle?", "lion"),
]  # fmt: skip
CORRECTIONS, UNKNOWN_FRAC, CASES_A_DESK, UNKNOWN_CASES = 300, 0.12, 10, 60
CONFIG = """
[gateway]
port = {gateway}
flush_interval_s = 0.05
answer_timeout_s = 300
total_timeout_s = 600
[gateway.upstreams.served]
provider = "local"
address = "http://127.0.0.1:{server}/v1"
models = {{ base = "smollm2" }}
[gateway.upstreams.candidate]
provider = "local"
address = "http://127.0.0.1:{server}/v1"
models = {{ "base.challenger" = "candidate" }}
"""


class Cycle:
    """The processes and files of one cycle."""

    def __init__(self, home: Path, model: Path, ports: tuple[int, int]) -> None:
        self.home, self.model, self.ports = home, model, ports
        self.url = f"http://127.0.0.1:{ports[0]}"
        self.environment = os.environ | {"TRIPTYCH_HOME": str(home)}
        self.running: list[subprocess.Popen[bytes]] = []
        home.mkdir(parents=True, exist_ok=True)
        text = CONFIG.format(gateway=ports[0], server=ports[1])
        (home / "gateway.toml").write_text(text)

    def start(self, health: str, *words: str) -> subprocess.Popen[bytes]:
        """Start a part and wait until it answers."""
        with (self.home / "parts.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "triptych", *words], env=self.environment, stdout=log,
                stderr=log,
            )  # fmt: skip
        self.running.append(process)
        for _ in range(600):
            try:
                urllib.request.urlopen(health, timeout=5).close()
                return process
            except OSError:
                time.sleep(0.5)
        raise SystemExit(f"{words[0]} did not come up")

    def serve(self, *adapters: str) -> subprocess.Popen[bytes]:
        """Serve the model, with adapters."""
        port = str(self.ports[1])
        words = ["serve", str(self.model), "--name", "smollm2", "--port", port]
        for one in adapters:
            words += ["--adapter", one]
        return self.start(f"http://127.0.0.1:{port}/health", *words)

    def gateway(self) -> None:
        """Start the gateway, with a company that agreed and twelve users."""
        config = str(self.home / "gateway.toml")
        self.start(f"{self.url}/ready", "gateway", "serve", "--config", config)
        self.key = (self.home / "gateway" / "admin-key").read_text().strip()
        self.call("POST", "/admin/companies", {"company_id": "acme", "name": "Acme"})
        consent = {"purpose": "improve", "granted": True, "company_id": "acme"}
        self.call("PUT", "/api/consent", consent)
        self.call("POST", "/admin/prompts/base", {"text": PROMPT})
        self.keys = []
        for number in range(12):
            name = f"u{number}"
            self.call("POST", "/admin/users", {"user_id": name, "companies": ["acme"]})
            made = self.call("POST", "/api/keys", {"name": name, "kind": "user", "user_id": name})
            self.keys.append(made["key"])

    def call(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        """Call the gateway."""
        return self.send(method, path, body, key)[1]

    def send(self, method: str, path: str, body: Any, key: str = "") -> tuple[str, Any]:
        """Call the gateway; return the request's id and the answer."""
        request = urllib.request.Request(
            self.url + path, None if body is None else json.dumps(body).encode(),
            {"authorization": f"Bearer {key or self.key}", "content-type": "application/json"},
            method=method,
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=600) as answer:
            return str(answer.headers["x-request-id"]), json.loads(answer.read())

    def ask(self, question: str, key: str, max_tokens: int = 16) -> tuple[str, str]:
        """Ask as a user."""
        body = {"model": "base", "max_tokens": max_tokens, "temperature": 0,
                "messages": [{"role": "user", "content": question}]}  # fmt: skip
        request_id, said = self.send("POST", "/v1/chat/completions", body, key)
        return request_id, str(said["choices"][0]["message"]["content"])

    def learn(self, *words: str, codes: tuple[int, ...] = (0,)) -> Any:
        """Run `triptych learn` and return its JSON."""
        address = [] if words[0] in ("plan", "gate", "train") else ["--gateway", self.url]
        done = subprocess.run(
            [sys.executable, "-m", "triptych", "learn", *words, "--json", *address],
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        print("learn", words[0], "exit", done.returncode, flush=True)
        if done.returncode not in codes:
            raise SystemExit(f"learn {words}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return json.loads(done.stdout) | {"exit_code": done.returncode}

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Stop one part."""
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        self.running.remove(process)


def main() -> None:
    """Run one cycle and write what it found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--home", type=Path, required=True, help="an empty folder")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ports", type=int, nargs=2, default=(7971, 7972))
    args = parser.parse_args()
    cycle = Cycle(args.home, args.model, tuple(args.ports))
    began_s = time.monotonic()
    try:
        found = one_cycle(cycle, args)
    finally:
        for process in list(cycle.running):
            cycle.stop(process)
    found["whole_cycle_s"] = round(time.monotonic() - began_s)
    report.write_results("loop", found)
    print(json.dumps(found, indent=1))


def one_cycle(cycle: Cycle, args: argparse.Namespace) -> dict[str, Any]:
    """Ask, correct, train, measure, decide, begin and go back."""
    rng = random.Random(args.seed)
    intents = json.loads((args.data / "intents.json").read_text("utf-8"))
    asked = corrections(intents, rng)
    cases = gate_cases(intents, rng)
    file, plan = cycle.home / "cases.json", cycle.home / "plan.json"
    file.write_text(json.dumps(cases))
    general = (args.data / "squad-passages.txt").read_text("utf-8")[:12_000]
    (cycle.home / "general.txt").write_text(general)
    server = cycle.serve()
    cycle.gateway()
    limits = ["--limit", "minimum_cases=100", "--limit", "latency_ratio=2"]
    cycle.learn("plan", str(plan), "--target", "desks", *limits)
    ids = []
    for number, (question, _) in enumerate(asked):
        ids.append(cycle.ask(question, cycle.keys[number % 12])[0])
    time.sleep(2)
    for request_id, (_, answer) in zip(ids, asked, strict=True):
        body = {"kind": "correction", "value": answer, "request_id": request_id}
        cycle.call("POST", "/api/feedback", body)
    data = cycle.learn("dataset", "--user-share", "1", "--cases", str(file))
    files = {one: str(cycle.home / f"{one}.json") for one in ("before", "after")}
    common = ["--general", str(cycle.home / "general.txt"), "--max-tokens", "24"]
    before = cycle.learn(
        "measure", str(plan), str(file), files["before"], "--model", "base", *common
    )
    cycle.stop(server)
    run = cycle.home / "run"
    session = cycle.learn(
        "train", "--base", str(args.model), "--run-dir", str(run), f"train.steps={args.steps}",
        "posttrain.batch_rows=8", f"train.seed={args.seed}",
    )  # fmt: skip
    cycle.serve(f"candidate={run}")
    after = cycle.learn(
        "measure", str(plan), str(file), files["after"], "--model", "base.challenger", *common
    )
    verdict = cycle.learn(
        "gate", str(plan), str(file), files["before"], files["after"], codes=(0, 1, 4)
    )
    return {
        "machine": report.environment(),
        "corrections": {"asked": len(asked), "train": data["train"],
                        "held out": data["held_out"], "removed": data["removed"]},
        "training": {"steps": args.steps, "seed": args.seed,
                     "machine_s": round(session["machine_s"])},
        "before": shown(before), "after": shown(after),
        "verdict": {"outcome": verdict["outcome"], "exit code": verdict["exit_code"],
                    "reason": verdict["reason"], "what would change it": verdict["change"]},
        "slices": {
            one["name"]: f"{one['before']:.0%} -> {one['after']:.0%} of {one['cases']}, change "
            f"{one['change']['low']:+.0%} to {one['change']['high']:+.0%}, p = {one['p']:.2g}"
            for one in verdict["slices"]
        },
        "refusals": {name: verdict["details"][name]
                     for name in ("wrong_refusals", "right_refusals")},
        **rollout(cycle, asked),
    }  # fmt: skip


def rollout(cycle: Cycle, asked: list[tuple[str, str]]) -> dict[str, Any]:
    """Begin a rollout whatever the gate said, look at copies, and take it back."""
    cycle.learn("start", "--ungated", "served", "candidate", "--limit", "shadow_requests=20",
                "--limit", "latency_ratio=100")  # fmt: skip
    for number, (question, _) in enumerate(asked[:30]):
        cycle.ask(f"{question}?", cycle.keys[number % 12])
    time.sleep(10)
    decided = cycle.learn("decide")
    began_s = time.monotonic()
    cycle.learn("back")
    back_s = time.monotonic() - began_s
    failed = 0
    for number, (question, _) in enumerate(asked[30:40]):
        failed += not cycle.ask(f"{question}?", cycle.keys[number % 12])[1]
    return {"rollout": {
        "copies": decided["arms"]["challenger"]["requests"],
        "decision": decided["decision"]["reason"],
        "back_s, with the start of Python": round(back_s, 2), "requests after it": 10,
        "without an answer": failed,
    }}  # fmt: skip


def shown(measured: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of one model."""
    return {
        "right": f"{measured['right']} of {measured['cases']}", "refused": measured["refused"],
        "bits per byte, general": round(measured["general_bpb"], 4),
        "latency_s": round(measured["latency_s"], 2),
    }  # fmt: skip


def corrections(intents: dict[str, Any], rng: random.Random) -> list[tuple[str, str]]:
    """Return questions with their right answers."""
    unknown = int(CORRECTIONS * UNKNOWN_FRAC)
    each = (CORRECTIONS - unknown) // len(DESKS)
    found = [
        (question, f"The {desk} helps with that.")
        for intent, desk in DESKS.items()
        for question in rng.sample(_of(intents["train"], intent), each)
    ]
    left = CORRECTIONS - len(found)
    found += [
        (question, "I do not know which desk helps with that.")
        for question in rng.sample(_of(intents["oos_train"], "oos"), left)
    ]
    rng.shuffle(found)
    return found


def gate_cases(intents: dict[str, Any], rng: random.Random) -> list[dict[str, Any]]:
    """Return the gate's questions: the target, what has no answer, and general knowledge."""
    cases: list[dict[str, Any]] = []
    for intent, desk in DESKS.items():
        for at, question in enumerate(rng.sample(_of(intents["test"], intent), CASES_A_DESK)):
            cases.append({"id": f"{intent}-{at}", "slice": "desks", "prompt": question,
                          "reference": desk})  # fmt: skip
    for at, question in enumerate(rng.sample(_of(intents["oos_test"], "oos"), UNKNOWN_CASES)):
        cases.append({"id": f"oos-{at}", "slice": "unknown", "prompt": question,
                      "answerable": False})  # fmt: skip
    for at, (question, reference) in enumerate(GENERAL):
        cases.append({"id": f"general-{at}", "slice": "general", "prompt": question,
                      "reference": reference})  # fmt: skip
    return cases


def _of(rows: list[list[str]], intent: str) -> list[str]:
    return [question for question, label in rows if label == intent]


if __name__ == "__main__":
    main()
