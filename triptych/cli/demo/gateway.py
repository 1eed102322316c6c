"""Last stage: one gateway, three tiers, and a switch of provider while requests flow."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from typing import TYPE_CHECKING, Any

from triptych.processes import free_port
from triptych.wire.tiers import TIERS

if TYPE_CHECKING:
    from triptych.cli.demo.tour import Tour

FLOW_S = 6.0
QUESTION = "In one sentence: what is Python?"


def stage(tour: Tour) -> None:
    """Serve the model through three tiers, move traffic by one flag, show the record."""
    from triptych.cli.demo.chat_model import base_model
    from triptych.cli.demo.company import show_company
    from triptych.cli.demo.loop import show_loop
    from triptych.hub.client import Hub

    owner = Hub(tour.environment()["HF_ENDPOINT"]).whoami()
    tour.title("10. Three tiers behind one gateway")
    base_repo, own = base_model(owner, tour.environment()["HF_ENDPOINT"]), f"{owner}/demo"
    tour.say(f"{base_repo} stands behind the base tier, your model behind the other two.")
    tour.triptych(
        "tiers", "setup", "--org", owner,
        "--model", base_repo, "--company", own, "--abstraction", own,
    )  # fmt: skip
    server_port, port = free_port(port=7890), free_port(port=7870)
    config = _with_second_provider(tour, server_port)
    server, base = f"http://127.0.0.1:{server_port}", f"http://127.0.0.1:{port}"
    tour.serve(
        "model-server", f"{server}/health",
        "serve", str(tour.run_dir), "--port", str(server_port), "--name", "demo",
    )  # fmt: skip
    tour.show("gateway", "serve", "--config", config)
    tour.serve(
        "gateway", f"{base}/health",
        "gateway", "serve", "--config", config, "--set", f"gateway.port={port}",
        "--set", "gateway.allow_private_addresses=true",
    )  # fmt: skip
    on = ("provider.hf_spaces=true", "tier.company=true", "tier.abstraction=true")
    tour.triptych("gateway", "flags", "provider=hf_spaces", *on, silent=True)
    key = _company_key(tour)
    tour.say(f"Each tier answers through the OpenAI API: {QUESTION}")
    for tier in TIERS:
        status, headers, body = _ask(base, key, tier)
        text = _text(body) if status == 200 else json.dumps(body)
        served_by = headers.get("x-triptych-upstream", "none")
        tour.say(f"  {tier:<12} {status}  by {served_by:<18} {text!r}"[:150])
    show_company(tour, base, key)
    _switch(tour, base, key)
    tour.say("The record says what really happened, before the switch and after it:")
    for provider in ("hf_spaces", "openai"):
        tour.triptych("gateway", "log", "--provider", provider, "-n", "3")
    show_loop(tour, base, key)


def _switch(tour: Tour, base: str, key: str) -> None:
    """Ask without a pause while one flag moves the traffic, and count who answered."""
    tour.say("\nRequests flow while one flag moves them from the Spaces to another provider:")
    answers: list[tuple[int, str]] = []
    done = threading.Event()

    def flow() -> None:
        while not done.is_set():
            status, headers, _ = _ask(base, key, "base")
            answers.append((status, headers.get("x-triptych-provider", "none")))

    asking = threading.Thread(target=flow)
    asking.start()
    time.sleep(FLOW_S / 2)
    tour.triptych("gateway", "flags", "provider=openai", silent=True)
    time.sleep(FLOW_S / 2)
    done.set()
    asking.join()
    by = ", ".join(
        f"{count} by {name}" for name, count in Counter(who for _, who in answers).items()
    )
    failed = sum(status != 200 for status, _ in answers)
    tour.say(f"  {len(answers)} requests: {by}; {failed} failed")


def _with_second_provider(tour: Tour, server_port: int) -> str:
    """Add an OpenAI-compatible upstream to the configuration that `tiers setup` wrote."""
    written = (tour.home / "gateway.toml").read_text(encoding="utf-8")
    written += (
        "\n[gateway.upstreams.openai-compatible]\n"
        'provider = "openai"\n'
        f'address = "http://127.0.0.1:{server_port}/v1"\n'
        'models = { base = "demo", company = "demo", abstraction = "demo" }\n'
        "external = false\n"
    )
    path = tour.home / "gateway-demo.toml"
    path.write_text(written, encoding="utf-8")
    return str(path)


def _company_key(tour: Tour) -> str:
    known = json.loads(tour.capture("gateway", "companies", "list", "--json"))
    if not any(row["company_id"] == "acme" for row in known):
        about = ("--name", "Acme", "--industry", "tools")
        tour.capture("gateway", "companies", "create", "acme", *about)
    created = tour.capture("gateway", "keys", "create", "demo", "--company", "acme", "--json")
    time.sleep(1.0)  # a new key is known to every worker within a second
    rows: list[dict[str, Any]] = json.loads(created)
    return str(rows[0]["key"])


def _ask(base: str, key: str, tier: str) -> tuple[int, dict[str, str], Any]:
    body = {
        "model": tier,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 24,
        "temperature": 0.2,
    }
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(  # noqa: S310  # an address of ours
        f"{base}/v1/chat/completions", data=json.dumps(body).encode(), headers=headers
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return answer.status, dict(answer.headers), json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), json.loads(error.read() or b"{}")


def _text(body: Any) -> str:
    return " ".join(str(body["choices"][0]["message"]["content"]).split())[:100]
