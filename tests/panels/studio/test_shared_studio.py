"""A shared Studio: own runs only, own token only, and no file that is not the visitor's."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import itsdangerous
import pytest
from fastapi.testclient import TestClient

from triptych.config import Config, load_config
from triptych.config.environment import Secret
from triptych.errors import AccessDenied, ConfigError, HubError, RunError, UsageError
from triptych.lm.runs.rights import check_request, corpora_of
from triptych.lm.runs.store import Request, RunStore
from triptych.lm.runs.sweep import start_sweep
from triptych.panels.studio import corpus, ended
from triptych.panels.studio.app import build_app
from triptych.panels.studio.start import Choice, configure, starts
from triptych.panels.studio.visitor import Visitor, who

OWNER, ANN = "hf_token-of-the-owner", "hf_token-of-ann"


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables a hub gives to a Space whose visitors sign in."""
    import gradio.oauth

    monkeypatch.setenv("SPACE_ID", "owner/studio")
    monkeypatch.setenv("SYSTEM", "spaces")
    monkeypatch.setenv("HF_TOKEN", OWNER)
    for name, value in {
        "OAUTH_CLIENT_ID": "client",
        "OAUTH_CLIENT_SECRET": "secret-of-the-space",
        "OAUTH_SCOPES": "openid profile",
        "OPENID_PROVIDER_URL": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setattr(gradio.oauth, name, value)


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


def cookie_of(user: str) -> dict[str, str]:
    """Sign a session as the application does after a visitor came back from the hub."""
    session = {"oauth_info": {"userinfo": {"preferred_username": user}, "access_token": ANN}}
    key = hashlib.sha256(b"secret-of-the-space-v4").hexdigest()
    data = base64.b64encode(json.dumps(session).encode())
    return {"session": itsdangerous.TimestampSigner(key).sign(data).decode()}


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
    with pytest.raises(ConfigError, match="lets nobody sign in") as caught:
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
        corpus.run_triptych(["pull", "owner/private"], ann, 300)
    with pytest.raises(UsageError):
        corpus.run_triptych(["publish", str(run.path), "owner/model"], ann, 300)
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


def test_an_upload_is_refused_by_type_and_by_size(own_home: Path, tmp_path: Path) -> None:
    config, local = load_config(None, ["panels.upload_bytes=5000"]), Visitor("local")
    for name in ("program.exe", "archive.zip", "pickle.pkl", "page.html.gz"):
        (tmp_path / name).write_bytes(b"MZ")
        with pytest.raises(UsageError, match="of no type"):
            corpus.build(tmp_path / "out", config, local, files=[str(tmp_path / name)])
    large = tmp_path / "large.txt"
    large.write_text("word " * 2000)
    with pytest.raises(UsageError, match="are allowed"):
        corpus.build(tmp_path / "out", config, local, files=[str(large)])


def test_a_compression_bomb_gives_no_more_text_than_is_allowed(
    own_home: Path, tmp_path: Path
) -> None:
    import gzip

    bomb = tmp_path / "bomb.jsonl.gz"
    with gzip.open(bomb, "wt") as file:
        for number in range(40_000):
            file.write(json.dumps({"text": f"story {number} of a ship and its crew"}) + "\n")
    config = load_config(None, ["panels.upload_bytes=300000", "data.vocab_size=512"])
    out = corpus.build(tmp_path / "out", config, Visitor("local"), files=[str(bomb)])
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    assert sum(split["bytes"] for split in counts.values()) <= 300_000
    assert "tokens to learn from" in corpus.describe(out)
