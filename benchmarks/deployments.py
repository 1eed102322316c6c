"""How long a deployment, a rollback and a failed deployment take, with real Space processes.

Claims: a rollback takes under 10 s, to the version the hub still keeps as well as to one that has
to start; a broken model leaves the old one answering without a gap. "whole command" is `triptych
spaces rollback` from the shell. Each Space is deployed to an embedded hub that runs as a process
of its own: the minimal Space, and the tier Space, which loads the model with torch or llama.cpp
and serves a page.
`python benchmarks/deployments.py [--rounds 5]` writes results/deployments.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KEYS = ("first", "deploy", "rollback", "command", "late", "failed")
RESULTS = Path(__file__).parent / "results"
SHAPE = "hidden_size=64 num_hidden_layers=2 num_attention_heads=2 intermediate_size=128"


def main() -> None:
    """Measure both Spaces and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="triptych-bench-") as temporary:
        home = Path(temporary)
        os.environ |= {
            "TRIPTYCH_HOME": str(home / "home"),
            "HF_HUB_CACHE": str(home / "cache"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        process, address = start_hub(home)
        try:
            # Read by the client library when it is imported, so set before.
            os.environ["HF_ENDPOINT"] = address
            spaces = {name: measure(name, home, rounds) for name in ("minimal", "tier")}
        finally:
            process.terminate()
            process.wait(timeout=60)
    write(spaces, rounds)


def start_hub(home: Path) -> tuple[subprocess.Popen[str], str]:
    """Start an embedded hub and wait until it answers."""
    command = [sys.executable, "-m", "triptych", "hub", "serve", "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    address = process.stdout.readline().removeprefix("hub: ").strip()
    while not (home / "home" / "hub" / "admin_token").exists():
        time.sleep(0.05)
    time.sleep(1)
    return process, address


def measure(name: str, home: Path, rounds: int) -> dict[str, Any]:
    """Deploy, fail to deploy and roll back, several times, on one Space."""
    from triptych.errors import DeploymentFailed
    from triptych.hub.client import Hub
    from triptych.hub.deployments import Deployer, Patience
    from triptych.hub.repository import Repo

    hub = Hub()
    models = publish(hub, home)
    space = Repo(f"{hub.whoami()}/{name}", "space")
    deployer = Deployer(hub, patience=Patience(total_s=300))
    began = time.perf_counter()
    deployer.deploy(models["first"], space, ROOT / "spaces" / name)
    times: dict[str, list[float]] = {"first": [time.perf_counter() - began]}
    times |= {"deploy": [], "rollback": [], "command": [], "late": [], "failed": []}
    command = [sys.executable, "-m", "triptych", "spaces", "rollback", space.repo_id]
    gaps = 0
    for _ in range(rounds):
        keep_nothing(hub, space)
        times["deploy"].append(timed(lambda: deployer.deploy(models["second"], space)))
        times["rollback"].append(timed(lambda: deployer.roll_back(space)))
        deployer.deploy(models["second"], space)
        times["command"].append(timed(lambda: subprocess.run(command, check=True)))
        deployer.deploy(models["second"], space)
        keep_nothing(hub, space)
        times["late"].append(timed(lambda: deployer.roll_back(space)))
        if name == "minimal":
            continue  # it loads no model, so none can break it
        with Watch(hub, space) as watch:
            began = time.perf_counter()
            try:
                deployer.deploy(models["torn"], space)
            except DeploymentFailed:
                times["failed"].append(time.perf_counter() - began)
        gaps += watch.unanswered
        assert watch.revisions == {models["first"].partition("@")[2]}, watch.revisions
    hub.delete(space)
    return {"seconds": times, "unanswered_during_failures": gaps}


def keep_nothing(hub: Any, space: Any) -> None:
    """Let go of the earlier version that the hub keeps, as time does."""
    hub.pause(space)
    hub.restart(space)
    while hub.ask_space(hub.space(space), "/health") is None:
        time.sleep(0.1)


def publish(hub: Any, home: Path) -> dict[str, str]:
    """Train for a few steps and publish two revisions, and one with torn weights."""
    from triptych.config import load_config
    from triptych.config.data import DataConfig
    from triptych.hub.publish import publish_milestones
    from triptych.hub.record import milestones
    from triptych.hub.repository import Repo
    from triptych.lm.data.build import build_corpus
    from triptych.lm.train.loop import run_to_end
    from triptych.lm.train.trainer import Trainer

    repo = Repo(f"{hub.whoami()}/model")
    if not (home / "run").exists():
        build_corpus(["python-docs"], home / "corpus", DataConfig(vocab_size=512, max_bytes=10**6))
        settings = [f"model.{pair}" for pair in f"size=tiny num_key_value_heads=1 {SHAPE}".split()]
        settings += ["train.steps=8", "train.milestones=[4,8]", "train.checkpoint_every=4"]
        config = load_config(None, [*settings, f"train.data={home / 'corpus'}"])
        run_to_end(Trainer(config, home / "run", resolve=Path))
    first, second = publish_milestones(hub, milestones(home / "run"), lambda _: repo, None)
    whole = hub.read(repo, "model.safetensors", second.commit)
    torn = hub.commit(repo, {"model.safetensors": whole[:-100]}, "Tear the weights")
    names = {"first": first.commit, "second": second.commit, "torn": torn}
    return {name: f"{repo.repo_id}@{commit}" for name, commit in names.items()}


def timed(work: Any) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class Watch:
    """Ask a Space ten times a second which revision it serves."""

    def __init__(self, hub: Any, space: Any) -> None:
        self.hub, self.space = hub, space
        self.revisions: set[str] = set()
        self.unanswered = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        state = self.hub.space(self.space)
        while not self._ended.wait(0.1):
            health = self.hub.ask_space(state, "/health")
            if health is None:
                self.unanswered += 1
            else:
                self.revisions.add(health["revision"])


def write(spaces: dict[str, Any], rounds: int) -> None:
    """Write the results with date and machine."""
    result = {
        "format_version": 1,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "rounds": rounds,
        "load_average_1min": round(os.getloadavg()[0], 1),
        "spaces": spaces,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "deployments.json").write_text(json.dumps(result, indent=2) + "\n")
    lines = [
        "# Deployments",
        "",
        f"{result['date']}, {result['machine']}, load average {result['load_average_1min']}, "
        f"{rounds} rounds. Seconds, median (slowest).",
        "",
        "| Space | first deployment | deployment | rollback | rollback, whole command "
        "| rollback when nothing was kept | failed, old one put back |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in spaces.items():
        times = found["seconds"]
        cells = [shown(times[key]) for key in KEYS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    gaps = spaces["tier"]["unanswered_during_failures"]
    lines += ["", f"Requests the old version left unanswered during failed deployments: {gaps}."]
    (RESULTS / "deployments.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def shown(times: list[float]) -> str:
    """Write a median and a maximum."""
    return f"{statistics.median(times):.1f} ({max(times):.1f})" if times else "-"


if __name__ == "__main__":
    main()
