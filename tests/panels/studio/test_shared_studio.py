"""A shared Studio: own runs only, own token only, and no file that is not the visitor's."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from visitors import OWNER, become_space, cookie_of, token_of
from written_runs import make

from triptych.config import Config, load_config
from triptych.config.environment import Secret
from triptych.errors import AccessDenied, ConfigError, HubError, RunError, UsageError
from triptych.lm.runs import control
from triptych.lm.runs.rights import check_request, corpora_of
from triptych.lm.runs.store import Request, RunStore
from triptych.lm.runs.supervisor import RunSupervisor
from triptych.lm.runs.sweep import start_sweep
from triptych.panels.command import run_triptych
from triptych.panels.studio import corpus, ended
from triptych.panels.studio.app import build_app
from triptych.panels.studio.start import Choice, configure, starts
from triptych.panels.visitor import Visitor, who

ANN = token_of("ann")


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch) -> None:
    become_space(monkeypatch)


@pytest.fixture
def hub_headers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Listen where the hub should be, and keep every header that arrives."""
    seen: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def answer(self) -> None:
            seen.append(str(self.headers))
            self.send_response(401)
            self.end_headers()

        do_GET = do_POST = do_HEAD = do_PUT = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield seen
    server.shutdown()
    server.server_close()


def request_of(store: RunStore, user: str) -> Request:
    folder = corpora_of(store, user) / "text"
    return Request.of(load_config(None, [f"train.data={folder}", "train.steps=5"]), user=user)


def test_a_visitor_sees_own_runs_only_and_nothing_before_signing_in(
    space: None, own_home: Path
) -> None:
    store = RunStore(own_home / "runs")
    app = build_app(load_config(), store)
    ann = TestClient(app, base_url="https://testserver", cookies=cookie_of("ann"))
    ben = TestClient(app, base_url="https://testserver", cookies=cookie_of("ben"))
    nobody = TestClient(app, base_url="https://testserver")
    assert nobody.get("/api/runs").status_code == 401
    local = store.create(request_of(store, "local"))
    made = ann.post("/api/runs", json={"settings": ["train.steps=5"]}).json()
    assert made["user"] == "hub/ann"
    assert [run["run_id"] for run in ann.get("/api/runs").json()] == [made["run_id"]]
    assert ben.get("/api/runs").json() == []
    for path in ("", "/log", "/events", "/config.toml", "/checkpoints/latest/model.safetensors"):
        for client in (ben, TestClient(app, cookies=cookie_of("local"))):
            assert client.get(f"/api/runs/{made['run_id']}{path}").status_code in (401, 404), path
            assert client.get(f"/api/runs/{local.run_id}{path}").status_code in (401, 404), path
    refused = ann.post("/api/runs", json={"settings": ["train.data=/etc"]})
    assert refused.status_code == 422 and "not one of your corpora" in refused.text


def test_a_forged_session_names_nobody(space: None, own_home: Path) -> None:
    app = build_app(load_config(), RunStore(own_home / "runs"))
    forged = {"session": cookie_of("ann")["session"][:-3] + "AAA"}
    client = TestClient(app, base_url="https://testserver", cookies=forged)
    assert client.get("/api/runs").status_code == 401


def test_a_space_that_lets_nobody_sign_in_does_not_start(
    space: None, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OAUTH_CLIENT_ID")
    with pytest.raises(ConfigError, match="has no sign-in") as caught:
        build_app(load_config(), RunStore(own_home / "runs"))
    assert "hf_oauth: true" in caught.value.hint


def test_nobody_can_be_called_as_the_local_user_is(space: None) -> None:
    session = {"oauth_info": {"userinfo": {"preferred_username": "local"}, "access_token": "x"}}
    visitor = who(SimpleNamespace(scope={"session": session}))
    assert visitor.user == "hub/local" and not visitor.is_local
    assert "x" not in repr(visitor)
    assert not who(SimpleNamespace(scope={"session": {}})).user


def test_the_owner_s_token_reaches_the_hub_for_no_visitor(
    space: None, hub_headers: list[str], own_home: Path, tmp_path: Path
) -> None:
    store, config = RunStore(own_home / "runs"), load_config()
    ann, nobody = Visitor("hub/ann", Secret(ANN)), Visitor("")
    (own_home / "hub").mkdir(parents=True)
    (own_home / "hub" / "admin_token").write_text("hf_admin-of-the-hub")
    run = store.create(request_of(store, ann.user))
    with pytest.raises(AccessDenied, match="not signed in"):
        ended._publish(run, nobody, "owner/model", True)
    with pytest.raises(AccessDenied):
        configure(store, config, Choice(text="x" * 3000), nobody)
    with pytest.raises(HubError):
        configure(store, config, Choice(start="owner/private", corpus="x"), ann)
    with pytest.raises(UsageError):
        corpus.build(tmp_path, config, ann, dataset="owner/private")
    with pytest.raises(UsageError):
        run_triptych(["pull", "owner/private"], ann, 300)
    with pytest.raises(UsageError):
        run_triptych(["publish", str(run.path), "owner/model"], ann, 300)
    assert any(ANN in headers for headers in hub_headers)
    for headers in hub_headers:
        assert OWNER not in headers and "hf_admin-of-the-hub" not in headers


def test_a_visitor_cannot_start_from_somebody_else_s_checkpoint_or_corpus(own_home: Path) -> None:
    store, config = RunStore(own_home / "runs"), load_config()
    theirs = store.create(request_of(store, "hub/ben"))
    folder = theirs.path / "checkpoints" / "step-00000005"
    folder.mkdir(parents=True)
    ann = Visitor("hub/ann", Secret(ANN))
    assert starts(store, ann.user) == [("from scratch", "")]
    with pytest.raises(UsageError, match="no run"):
        configure(store, config, Choice(start=f"{theirs.run_id}/{folder.name}"), ann)
    with pytest.raises(RunError, match="not one of your corpora"):
        configure(store, config, Choice(corpus=str(corpora_of(store, "hub/ben") / "x")), ann)
    with pytest.raises(RunError, match="not a checkpoint of one of your runs"):
        configure(store, config, Choice(settings=[f"train.init_from={folder}"]), ann)


def test_a_sweep_names_nothing_that_a_single_run_may_not(own_home: Path) -> None:
    store, config = RunStore(own_home / "runs"), load_config(None, ["runs.max_queued_per_user=2"])

    def sweep(*vary: str) -> None:
        def check(one: Config) -> None:
            check_request(store, config.runs, one, "hub/ann")

        start_sweep(store, load_config(), vary, user="hub/ann", check=check)

    for setting in ("train.data=/etc", "train.init_from=/etc"):
        with pytest.raises(RunError, match="not"):
            sweep("train.seed=1", setting)
    assert store.list() == []
    with pytest.raises(RunError, match="2 are allowed"):
        sweep("train.seed=1,2,3,4")
    assert len(store.list()) == 2


def test_what_a_person_keeps_counts_against_their_disk_and_old_runs_are_deleted(
    own_home: Path,
) -> None:
    store = RunStore(own_home / "runs")
    limits = load_config(None, ["runs.max_disk_bytes=100000", "runs.expire_days=3"]).runs
    corpus_of_ann = corpora_of(store, "hub/ann") / "text"
    corpus_of_ann.mkdir(parents=True)
    (corpus_of_ann / "train-00000.bin").write_bytes(bytes(200_000))
    with pytest.raises(RunError, match="runs and corpora take"):
        check_request(store, limits, load_config(None, ["train.steps=5"]), "hub/ann")
    check_request(store, limits, load_config(None, ["train.steps=5"]), "hub/ben")

    old, new, paused = (make(store, name, [5.0, 4.0], user="hub/ann") for name in "abc")
    (paused.path / "run.json").write_text('{"format_version": 1, "state": "stopped", "step": 2}')
    control.pause(store, paused.run_id, by="hub/ann")
    week_ago = time.time() - 7 * 86400
    for run in (old, paused):
        for file in run.path.glob("*.json"):
            os.utime(file, (week_ago, week_ago))
    with RunSupervisor(store, limits) as supervisor:
        store.annotate(new.run_id, name="still here")
        supervisor.tick()
    left = {run.name for run in store.list()}
    assert left == {"still here", "c"}


def test_an_upload_is_refused_by_type_and_by_size(own_home: Path, tmp_path: Path) -> None:
    config, local = load_config(None, ["panels.upload_bytes=5000"]), Visitor("local")
    for name in ("program.exe", "archive.zip", "pickle.pkl", "page.exe.gz"):
        (tmp_path / name).write_bytes(b"MZ")
        with pytest.raises(UsageError, match="of no type"):
            corpus.build(tmp_path / "out", config, local, files=[str(tmp_path / name)])
    large = tmp_path / "large.txt"
    large.write_text("word " * 2000)
    with pytest.raises(UsageError, match="are allowed"):
        corpus.build(tmp_path / "out", config, local, files=[str(large)])


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_compression_bomb_gives_no_more_text_than_is_allowed(
    own_home: Path, tmp_path: Path, kind: str
) -> None:
    import pyarrow

    bomb = tmp_path / f"bomb.jsonl.{kind}"
    codec = {"gz": "gzip", "zst": "zstd"}[kind]
    with pyarrow.CompressedOutputStream(str(bomb), codec) as file:
        for number in range(20_000):
            line = json.dumps({"text": f"story {number} of a ship and its crew"}) + "\n"
            file.write(line.encode())
    config = load_config(None, ["panels.upload_bytes=100000", "data.vocab_size=512"])
    out = corpus.build(tmp_path / "out", config, Visitor("local"), files=[str(bomb)])
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    assert sum(split["bytes"] for split in counts.values()) <= 100_000
    assert "to learn from" in corpus.describe(out)
