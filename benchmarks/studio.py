"""What watching a run costs: the supervisor, the page, many watchers, a long list.

Each figure comes from real workers and the real application on loopback.
`python benchmarks/studio.py` writes results/studio.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from report import RESULTS, environment, write_results

from triptych.processes import free_port

if TYPE_CHECKING:
    from triptych.lm.runs.store import Run, RunStore

PARTS = ["runs", "list", "page"]
WATCHERS = 50
LISTED = 1000
TINY = (
    "model.size=nano", "train.context_length=128", "train.batch_tokens=512",
    "train.compile=off", "train.precision=float32", "train.threads=1", "train.eval_every=0",
    "train.sample_every=0", "train.checkpoint_every=0",
)  # fmt: skip
# Two hundred steps a second, so that ten thousand fit into a minute.
SMALLER = (
    "model.hidden_size=32", "model.num_hidden_layers=1", "model.num_attention_heads=2",
    "train.context_length=32", "train.batch_tokens=64",
)  # fmt: skip


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150, help="of each run that is compared")
    parser.add_argument("--rounds", type=int, default=3, help="of bare, supervised, watched")
    parser.add_argument("--page-steps", type=int, default=10_000, help="with a page open")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="triptych-bench-") as folder:
        home = Path(folder)
        os.environ["TRIPTYCH_HOME"] = str(home)
        corpus = build(home)
        earlier = RESULTS / "studio.json"
        kept = json.loads(earlier.read_text()) if asked.parts != PARTS and earlier.exists() else {}
        found: dict[str, Any] = kept | {"machine": environment()}
        if "runs" in asked.parts:
            found |= {"steps": asked.steps}
            found |= compare(home, settings(corpus, asked.steps), asked.rounds)
        if "list" in asked.parts:
            found[f"list_of_{LISTED}_runs_s"] = listing(home)
        if "page" in asked.parts:
            found |= page_open(home, [*settings(corpus, asked.page_steps), *SMALLER])
        write_results("studio", found)


def compare(home: Path, chosen: list[str], rounds: int) -> dict[str, Any]:
    """Train bare, supervised and watched in turn; a slower hour of the machine hits all three."""
    rates: dict[str, list[float]] = {"bare": [], "supervised": [], "watched": []}
    delays: list[float] = []
    ticking: list[float] = []
    for number in range(rounds):
        rates["bare"].append(rate_of(train(home / f"bare-{number}", chosen)))
        supervised = supervise(home, chosen, watchers=0)
        rates["supervised"].append(supervised["tok_per_s"])
        ticking.append(supervised["cpu_frac"])
        watched = supervise(home, chosen, watchers=WATCHERS)
        rates["watched"].append(watched["tok_per_s"])
        delays += watched["delays"]
    bare, supervised_rate, watched_rate = map(statistics.median, rates.values())
    return {
        "tok_per_s, bare": rates["bare"],
        "tok_per_s, supervised": rates["supervised"],
        f"tok_per_s, {WATCHERS} watchers": rates["watched"],
        "overhead_of_supervisor_frac, of medians": round(1 - supervised_rate / bare, 4),
        "cpu_of_web_and_supervisor_frac, of a core": round(statistics.median(ticking), 4),
        f"overhead_of_{WATCHERS}_watchers_frac, of medians": round(
            1 - watched_rate / supervised_rate, 4
        ),
        f"event_at_{WATCHERS}_watchers_p50_s": round(statistics.median(delays), 3),
        f"event_at_{WATCHERS}_watchers_p95_s": round(statistics.quantiles(delays, n=20)[-1], 3),
    }


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
    """Return the settings of one measured run."""
    return [*TINY, f"train.data={corpus}", f"train.steps={steps}"]


def train(folder: Path, chosen: list[str]) -> Path:
    """Train as `triptych train` does, with nobody looking."""
    command = [sys.executable, "-m", "triptych", "train", *chosen, "--quiet"]
    subprocess.run([*command, "--run-dir", str(folder)], check=True, capture_output=True)
    return folder


def rate_of(folder: Path) -> float:
    """Return the median tokens per second of a run's second half."""
    lines = (folder / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    rates = [event["train/tok_per_s"] for event in events if event["type"] == "step"]
    return round(statistics.median(rates[len(rates) // 2 :]), 1)


@contextmanager
def studio(store: RunStore) -> Iterator[str]:
    """Serve the real application, which supervises the runs of a store."""
    import uvicorn

    from triptych.config import load_config
    from triptych.panels.studio.app import build_app
    from triptych.processes import bind

    listener = bind("127.0.0.1", 0)
    config = uvicorn.Config(
        build_app(load_config(), store), log_level="error", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    web = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    web.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        web.join()


def supervise(home: Path, chosen: list[str], watchers: int) -> dict[str, Any]:
    """Train under the supervisor inside the web application, watched by so many streams."""
    from triptych.config import load_config
    from triptych.lm.runs.store import Request, RunStore

    store = RunStore(home / "runs")
    with studio(store) as address:
        run = store.create(Request.of(load_config(None, chosen)))
        delays: list[float] = []
        url = f"{address}/api/runs/{run.run_id}/events"
        for _ in range(watchers):
            threading.Thread(target=watch, args=(url, delays), daemon=True).start()
        wait_for(store, run.run_id, lambda seen: seen.step > 0)
        used_s, began_s = time.process_time(), time.monotonic()
        wait_for(store, run.run_id, lambda seen: seen.state in ("succeeded", "failed"))
        cpu_frac = (time.process_time() - used_s) / (time.monotonic() - began_s)
    return {"tok_per_s": rate_of(run.path), "delays": delays, "cpu_frac": cpu_frac}


def wait_for(store: RunStore, run_id: str, true: Callable[[Run], bool]) -> None:
    """Look twice a second until a run is so."""
    while not true(store.get(run_id)):
        time.sleep(0.5)


def watch(address: str, delays: list[float]) -> None:
    """Follow a stream and note how late each step arrives."""
    request = urllib.request.Request(address, headers={"accept": "text/event-stream"})
    with urllib.request.urlopen(request) as body:
        for line in body:
            if line.startswith(b"data:") and b'"step"' in line:
                event = json.loads(line[5:])
                if event.get("type") == "step":
                    delays.append(time.time() - event["time_s"])


# In the page: when each new number of steps became visible.
LOOK = """(total) => {
  window.seen = [];
  const look = () => {
    const head = document.getElementById('run-head');
    const found = head && head.textContent.match(new RegExp('([\\\\d,]+) of ' + total));
    const step = found ? Number(found[1].replaceAll(',', '')) : 0;
    const last = window.seen.at(-1);
    if (step && (!last || last[0] !== step)) window.seen.push([step, Date.now() / 1000]);
  };
  new MutationObserver(look).observe(document.body, {subtree: true, childList: true,
    characterData: true});
}"""


@contextmanager
def own_process(home: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Serve the Studio as `triptych studio` does, so that what it costs is its own."""
    port = free_port()
    command = [sys.executable, "-m", "triptych", "studio", "--port", str(port)]
    server = subprocess.Popen(command, env={**os.environ, "TRIPTYCH_HOME": str(home)})
    address = f"http://127.0.0.1:{port}"
    try:
        while not answers(f"{address}/health"):
            assert server.poll() is None, "the Studio did not start"
            time.sleep(0.2)
        yield address, psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait()


def answers(address: str) -> bool:
    """Return whether somebody answers there."""
    try:
        return bool(urllib.request.urlopen(address).status == 200)
    except OSError:
        return False


def page_open(home: Path, chosen: list[str]) -> dict[str, Any]:
    """Keep a page of a real Chromium open while a run trains from its first step to its last."""
    from playwright.sync_api import sync_playwright

    from triptych.config import load_config
    from triptych.lm.runs.store import Request, RunStore

    store, config = RunStore(home / "page" / "runs"), load_config(None, chosen)
    with own_process(home / "page") as (address, server), sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page()
        run = store.create(Request.of(config))
        page.goto(f"{address}/?run={run.run_id}")
        page.evaluate(LOOK, config.train.steps)
        wait_for_page(page, store, run.run_id, lambda seen: seen.step > 0)
        chromium = [p for p in psutil.Process().children(recursive=True) if "chrom" in p.name()]
        began, began_s = [cpu_s(chromium), cpu_s([server])], time.monotonic()
        memory_bytes: list[int] = []

        def ended(seen: Run) -> bool:
            memory_bytes.append(sum(p.memory_info().rss for p in chromium if p.is_running()))
            return seen.state in ("succeeded", "failed")

        wait_for_page(page, store, run.run_id, ended)
        took_s = time.monotonic() - began_s
        browser_frac, server_frac = (
            (now - then) / took_s
            for now, then in zip([cpu_s(chromium), cpu_s([server])], began, strict=True)
        )
        seen = page.evaluate("window.seen")
        browser.close()
    fifth = max(1, len(memory_bytes) // 5)
    late = visible_delays(run.path, seen)
    return {
        "page: steps while it was open": config.train.steps,
        "page: seconds it was open": round(took_s, 1),
        "page: cpu_frac of a core, browser and server": round(browser_frac + server_frac, 4),
        "page: cpu_frac of a core, browser": round(browser_frac, 4),
        "page: cpu_frac of a core, server and supervisor": round(server_frac, 4),
        "page: browser memory after a fifth, bytes": memory_bytes[fifth],
        "page: browser memory at the end, bytes": memory_bytes[-1],
        "page: times a new step became visible": len(seen),
        "page: newest step's age when shown, p50_s": round(statistics.median(late), 3),
        "page: newest step's age when shown, p95_s": round(statistics.quantiles(late, n=20)[-1], 3),
    }


def wait_for_page(page: Any, store: RunStore, run_id: str, true: Callable[[Run], bool]) -> None:
    """Wait as `wait_for` does, and let the browser's messages be heard meanwhile."""
    while not true(store.get(run_id)):
        page.wait_for_timeout(500)


def cpu_s(processes: list[psutil.Process]) -> float:
    """Sum the processor time of processes that still run."""
    alive = [process.cpu_times() for process in processes if process.is_running()]
    return float(sum(times.user + times.system for times in alive))


def visible_delays(run: Path, seen: list[list[float]]) -> list[float]:
    """Say how old each shown step was, in seconds, when it became visible."""
    lines = (run / "events.jsonl").read_text().splitlines()
    written = {e["step"]: e["time_s"] for e in map(json.loads, lines) if e["type"] == "step"}
    return [shown_s - written[int(step)] for step, shown_s in seen if int(step) in written]


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
