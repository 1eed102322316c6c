"""How long a stranger waits: from the press of Start on pasted text to a curve that moves.

A real Chromium, the real page, an untouched form; each round in a home of its own.
`python benchmarks/stranger.py [--rounds 3]` writes results/stranger.json and .md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from pydoc_data.topics import topics

from report import environment, write_results

TEXT = "\n\n".join(topics.values())[:60_000]
CURVE = """[...document.querySelectorAll('svg.chart polyline')]
    .some(line => line.getAttribute('points').trim().split(' ').length > 1)"""


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    machine = environment()
    found = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="triptych-bench-") as home:
            found.append(waited(Path(home)))
    write_results("stranger", {
        **machine,
        "rounds": rounds,
        "first_curve_s": round(statistics.median(waits[1] for waits in found), 2),
        "first_curve_slowest_s": round(max(waits[1] for waits in found), 2),
        "queued_s": round(statistics.median(waits[0] for waits in found), 2),
        "text_characters": len(TEXT),
    })  # fmt: skip


def waited(home: Path) -> tuple[float, float]:
    """Return the seconds until the run is shown, and until its curve is."""
    import uvicorn
    from playwright.sync_api import sync_playwright

    from triptych.config import load_config
    from triptych.lm.runs import control
    from triptych.lm.runs.store import RunStore
    from triptych.panels.studio.app import build_app
    from triptych.processes import bind

    os.environ["TRIPTYCH_HOME"] = str(home)
    store = RunStore(home / "runs")
    listener = bind("127.0.0.1", 0)
    app = build_app(load_config(), store)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    web = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    web.start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page()
            page.set_default_timeout(120_000)
            page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}")
            page.get_by_label("Paste text").fill(TEXT)
            began_s = time.monotonic()
            page.get_by_role("button", name="Start training").click()
            page.locator("#run-head").wait_for()
            queued_s = time.monotonic() - began_s
            page.wait_for_function(CURVE)
            curve_s = time.monotonic() - began_s
            browser.close()
        run = control.cancel(store, store.list()[0].run_id)
        while store.get(run.run_id).state != "cancelled":
            time.sleep(0.2)
    finally:
        server.should_exit = True
        web.join()
    return queued_s, curve_s


if __name__ == "__main__":
    main()
