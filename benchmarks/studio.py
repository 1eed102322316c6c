"""What watching a run costs: the supervisor, the page, many watchers, a long list.

Each figure comes from real workers and the real application on loopback.
`python benchmarks/studio.py [--steps 2000]` writes results/studio.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from report import environment, write_results

WATCHERS = 50
LISTED = 1000
TINY = (
    "model.size=nano", "train.context_length=128", "train.batch_tokens=1024",
    "train.compile=off", "train.precision=float32", "train.threads=1", "train.eval_every=0",
    "train.sample_every=0", "train.checkpoint_every=0",
)  # fmt: skip


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory(prefix="triptych-bench-") as folder:
        home = Path(folder)
        os.environ["TRIPTYCH_HOME"] = str(home)
        corpus = build(home)
        found: dict[str, Any] = {"machine": environment(), "steps": steps}
        found["bare_tok_per_s"] = bare = rate_of(train(home, corpus, steps))
        supervised = supervise(home, corpus, steps, watchers=0)
        watched = supervise(home, corpus, steps, watchers=WATCHERS)
        found["supervised_tok_per_s"] = supervised["tok_per_s"]
        found["overhead_of_supervisor_frac"] = round(1 - supervised["tok_per_s"] / bare, 4)
        found[f"overhead_of_{WATCHERS}_watchers_frac"] = round(
            1 - watched["tok_per_s"] / supervised["tok_per_s"], 4
        )
        found["event_seen_p95_s"] = watched["event_seen_p95_s"]
        found["drawing_cpu_frac"] = drawing_cost(home)
        found[f"list_of_{LISTED}_runs_s"] = listing(home)
    write_results("studio", found)


def build(home: Path) -> Path:
    """Build a corpus of sentences."""
    from triptych.config import load_config
    from triptych.lm.data.build import build_corpus

    text = home / "text"
    text.mkdir()
    for number in range(200):
        lines = [f"Line {n} of story {number} tells of {n * number} ships." for n in range(60)]
        (text / f"{number}.txt").write_text("\n".join(lines))
    build_corpus([str(text)], home / "corpus", load_config(None, ["data.vocab_size=512"]).data)
    return home / "corpus"


def settings(corpus: Path, steps: int) -> list[str]:
    """Give the settings of one measured run."""
    return [*TINY, f"train.data={corpus}", f"train.steps={steps}"]


def train(home: Path, corpus: Path, steps: int) -> Path:
    """Train as `triptych train` does, with nobody looking."""
    import subprocess

    folder = home / "bare"
    command = [sys.executable, "-m", "triptych", "train", *settings(corpus, steps), "--quiet"]
    subprocess.run([*command, "--run-dir", str(folder)], check=True, capture_output=True)
    return folder


def rate_of(folder: Path) -> float:
    """Return the median tokens per second of a run's second half."""
    lines = (folder / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    rates = [event["train/tok_per_s"] for event in events if event["type"] == "step"]
    return round(statistics.median(rates[len(rates) // 2 :]), 1)


def supervise(home: Path, corpus: Path, steps: int, watchers: int) -> dict[str, float]:
    """Train under the supervisor inside the web application, watched by so many streams."""
    import uvicorn

    from triptych.config import load_config
    from triptych.lm.runs.store import Request, RunStore
    from triptych.panels.studio.app import build_app
    from triptych.processes import bind

    store = RunStore(home / "runs")
    listener = bind("127.0.0.1", 0)
    config = uvicorn.Config(build_app(load_config(), store), log_level="error")
    server = uvicorn.Server(config)
    web = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    web.start()
    run = store.create(Request.of(load_config(None, settings(corpus, steps))))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/api/runs/{run.run_id}/events"
    delays: list[float] = []
    threads = [
        threading.Thread(target=watch, args=(address, delays), daemon=True) for _ in range(watchers)
    ]
    for thread in threads:
        thread.start()
    while store.get(run.run_id).state not in ("succeeded", "failed"):
        time.sleep(0.5)
    server.should_exit = True
    web.join()
    p95 = statistics.quantiles(delays, n=20)[-1] if len(delays) > 20 else float("nan")
    return {"tok_per_s": rate_of(run.path), "event_seen_p95_s": round(p95, 3)}


def watch(address: str, delays: list[float]) -> None:
    """Follow a stream and note how late each step arrives."""
    request = urllib.request.Request(address, headers={"accept": "text/event-stream"})
    with urllib.request.urlopen(request) as body:
        for line in body:
            if line.startswith(b"data:") and b'"step"' in line:
                event = json.loads(line[5:])
                if event.get("type") == "step":
                    delays.append(time.time() - event["time_s"])


def drawing_cost(home: Path) -> float:
    """Return the share of a core that keeping a page of 10,000 steps up to date takes."""
    from triptych.config import load_config
    from triptych.lm.runs.store import Request, RunStore
    from triptych.panels.studio.watch import Drawings

    store, config = RunStore(home / "long"), load_config()
    run = store.create(Request.of(config))
    step = {
        "type": "step", "tokens_seen": 1, "train/loss": 2.0, "train/lr": 0.1, "train/mfu": 0.4,
        "train/grad_norm": 1.0, "train/tok_per_s": 1.0, "memory_bytes": 1, "eta_s": 1.0,
    }  # fmt: skip
    (run.path / "run.json").write_text('{"format_version": 1, "state": "running", "step": 1}')
    drawings = Drawings(store, config)
    with (run.path / "events.jsonl").open("w") as file:
        for number in range(1, 10_001):
            line = {"seq": number, "time_s": float(number), "step": number, **step}
            file.write(json.dumps(line) + "\n")
        file.flush()
        started_s, began_s = time.process_time(), time.monotonic()
        while time.monotonic() - began_s < 20.0:
            file.write(json.dumps({"time_s": 0.0, "type": "log", "message": ""}) + "\n")
            file.flush()
            drawings.of(run.run_id)
            time.sleep(config.panels.refresh_s)
    return round((time.process_time() - started_s) / (time.monotonic() - began_s), 4)


def listing(home: Path) -> float:
    """Return the seconds in which a running service lists so many finished runs."""
    from triptych.config import load_config
    from triptych.lm.runs.store import Request, RunStore

    made = RunStore(home / "many")
    for _ in range(LISTED):
        run = made.create(Request.of(load_config()))
        (run.path / "run.json").write_text('{"format_version": 1, "state": "finished", "step": 5}')
    fresh = RunStore(home / "many")
    fresh.list()
    started_s = time.perf_counter()
    fresh.list()
    return round(time.perf_counter() - started_s, 4)


if __name__ == "__main__":
    main()
