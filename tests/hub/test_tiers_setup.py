"""`triptych tiers setup` makes three private Spaces, and a gateway that answers through them."""

from __future__ import annotations

import asyncio
import json
import tomllib
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from triptych.config import environment, load_config
from triptych.hub.repository import Repo
from triptych.hub.upload import put_files
from triptych.tiers.api import Gateway
from triptych.tiers.pipeline.runtime import Runtime
from triptych.tiers.store import accounts, deployments
from triptych.tiers.store import flags as flag_store
from triptych.tiers.store.database import across
from triptych.tiers.store.upstreams import list_models
from triptych.wire.tiers import TIERS

APP = Path(__file__).parents[1] / "panels" / "console" / "space"
ALL = across("a test looks at everything")
RECORD = {
    "run": {"run_id": "run-7", "data_fingerprint": "d" * 64, "parent": "run-6"},
    "config": {"recipe": {"learning_rate": 0.01}},
    "evaluations": [{"step": 1, "val/loss": 3.0}, {"step": 2, "val/loss": 2.5}],
}


@pytest.fixture
def model(client: Any, fresh: Any) -> Repo:
    """A repository that looks like a published model, with its training record."""
    repo = fresh()
    files = {"config.json": b"{}", "model.safetensors": b"0" * 16}
    put_files(
        client, repo, {**files, "training_record.json": json.dumps(RECORD).encode()}, "Publish"
    )
    return repo


async def served(toml: Path) -> dict[str, Any]:
    """Ask every tier of the gateway that the written configuration describes."""
    import uvicorn

    from triptych.processes import bind
    from triptych.tiers.workers import options

    runtime = Runtime(load_config(toml).gateway)
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(options(Gateway(runtime)))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    database = runtime.database
    for key, value in (
        ("provider", "hf_spaces"), ("provider.hf_spaces", True),
        ("tier.company", True), ("tier.abstraction", True),
    ):  # fmt: skip
        await flag_store.set_flag(database, key, value, actor="t")
    await accounts.create_company(database, "acme", "Acme", actor="t")
    key = await accounts.create_key(database, name="app", company_id="acme", actor="t")
    admin = await accounts.create_key(database, name="admin", role="admin", actor="t")
    await runtime.refresh()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    found: dict[str, Any] = {}
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"}) as session:
        for tier in TIERS:
            body = {"model": tier, "messages": [{"role": "user", "content": "hi"}]}
            async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                found[tier] = (answer.status, answer.headers.get("x-triptych-revision"))
    space = next(iter(load_config(toml).gateway.upstreams.values())).address
    as_admin = {"authorization": f"Bearer {admin}"}
    async with aiohttp.ClientSession(headers=as_admin) as session:
        for name, revision in (("lie", "0" * 40), ("truth", found["base"][1])):
            body = {
                "space": space, "repo_id": "acme/other", "revision": revision, "status": "live"
            }  # fmt: skip
            async with session.post(f"{url}/admin/deployments", json=body) as answer:
                found[name] = answer.status
    found["models"] = await list_models(database, ALL)
    found["deployments"] = await deployments.listed(database)
    server.should_exit = True
    await task
    return found


def test_one_command_makes_three_private_spaces_and_a_gateway_that_answers_through_them(
    client: Any, triptych: Any, model: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = client.whoami()
    for tier, variable in (
        ("base", "HF_BASE_SPACE"), ("company", "HF_COMPANY_SPACE"),
        ("abstraction", "HF_ABSTRACTION_SPACE"),
    ):  # fmt: skip
        monkeypatch.setenv(variable, f"setup-{tier}-{model.repo_id[-6:]}")
    words = ("tiers", "setup", "--org", owner, "--model", model.repo_id, "--app", str(APP))
    done = triptych(*words, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    head = client.head(model)
    token = environment.secret("HF_TOKEN").reveal()
    spaces = {}
    for tier in TIERS:
        spaces[tier] = Repo.parse(told["tiers"][tier]["space"], "space")
        assert client.is_private(spaces[tier])
        assert client.secrets(spaces[tier]) == ["HF_TOKEN"]
        pinned = {n: v for n, (v, _) in client.variables(spaces[tier]).items()}
        assert pinned == {"MODEL_ID": model.repo_id, "MODEL_VERSION": head}
        assert told["tiers"][tier]["state"] == "live"
    written = Path(told["config"]).read_text()
    assert token not in written
    upstreams = tomllib.loads(written)["gateway"]["upstreams"]
    assert [u["address"] for u in upstreams.values()] == [s.repo_id for s in spaces.values()]

    again = triptych(*words, "--json")
    ids = [json.loads(again.stdout)["tiers"][tier]["id"] for tier in TIERS]
    assert ids == [told["tiers"][tier]["id"] for tier in TIERS], "what is live is left as it is"

    found = asyncio.run(served(Path(told["config"])))
    assert [found[tier] for tier in TIERS] == [(200, head)] * 3
    assert (found["lie"], found["truth"]) == (409, 200), "only what the Space says is live"
    assert token not in str(found)
    own = [row for row in found["models"] if row["name"] == model.repo_id]
    assert {row["revision"] for row in own} == {head}
    assert {(row["tier"], row["hf_space_id"], row["is_active"]) for row in own} == {
        (tier, spaces[tier].repo_id, tier != "base") for tier in TIERS
    }, "what was written down later answers in the first Space now"
    assert own[0]["run_id"] == "run-7"
    assert own[0]["dataset_hash"] == "d" * 64
    assert own[0]["parent_model_id"] == "run-6"
    assert own[0]["evaluation"]["val/loss"] == 2.5
    assert own[0]["hyperparameters"] == {"learning_rate": 0.01}
    ours = [row for row in found["deployments"] if row["model"].startswith(model.repo_id)]
    assert sorted(row["space"] for row in ours) == sorted(s.repo_id for s in spaces.values())
    assert {row["status"] for row in ours} == {"live"}

    shown = triptych("tiers", "status", "--org", owner, "--json")
    rows = json.loads(shown.stdout)
    assert [rows[tier]["revision"] for tier in TIERS] == [head] * 3
