"""A Space from its first commit to its deletion, through the unmodified client."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
from gradio_client import Client
from huggingface_hub import CommitOperationAdd, CommitOperationDelete

from triptych.processes import Identity

GRADIO = """
import gradio as gr

with gr.Blocks(analytics_enabled=False) as demo:
    name, greeting = gr.Textbox(), gr.Textbox()
    name.submit(lambda name: f"Hello {name}", name, greeting, api_name="greet")
demo.launch()
"""
REPOSITORY = Path(__file__).resolve().parents[3]


def wait_for(true, what: str = "it"):
    deadline = time.monotonic() + 90
    while not (value := true()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
    return value


def test_the_minimal_space_runs_and_names_its_model_at_health(running) -> None:
    space = running.space(None, space_variables=[{"key": "MODEL_VERSION", "value": "abc123"}])
    space.api.upload_folder(
        repo_id=space.repo_id,
        folder_path=REPOSITORY / "triptych" / "spaces" / "minimal",
        repo_type="space",
    )
    runtime = space.until("RUNNING")
    assert runtime["sha"] == space.api.space_info(space.repo_id).sha
    assert space.get("/health").json() == {"status": "ok", "model": "", "revision": "abc123"}
    assert space.api.wait_for_space(space.repo_id, timeout=120).stage == "RUNNING"


def test_gradio_client_finds_a_space_by_its_name(running, monkeypatch, tmp_path) -> None:
    space = running.space(GRADIO, private=True)
    # Both libraries read the endpoint when they are imported.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.url)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", running.url)
    client = Client(
        space.repo_id, token=running.token, verbose=False, analytics_enabled=False,
        download_files=tmp_path,
    )  # fmt: skip
    try:
        assert client.predict("Ada", api_name="/greet") == "Hello Ada"
    finally:
        client.close()


def test_a_new_repository_has_no_app_yet(running) -> None:
    space = running.space(None)
    space.until("NO_APP_FILE", "CONFIG_ERROR")
    assert space.get("/").status_code == 503


@pytest.mark.parametrize(
    ("readme", "message"),
    [
        ("---\nsdk: docker\n---\n", "container images"),
        ("no front matter", "front matter"),
        ("---\nsdk: [\n---\n", "YAML"),
        ("---\nsdk: gradio\napp_file: ../../hub.db\n---\n", "leaves the repository"),
        ("---\nsdk: gradio\nstartup_duration_timeout: soon\n---\n", "startup_duration_timeout"),
        ("---\nsdk: gradio\ncustom_headers: {set-cookie: x}\n---\n", "custom_headers"),
    ],
)
def test_a_wrong_configuration_is_explained(running, tmp_path, readme: str, message: str) -> None:
    from triptych.hub.server.spaces.card import read_card
    from triptych.hub.server.spaces.stages import SpaceFailed

    (tmp_path / "README.md").write_text(readme)
    (tmp_path / "app.py").write_text("")
    with pytest.raises(SpaceFailed, match=message) as failure:
        read_card(tmp_path)
    assert failure.value.stage == "CONFIG_ERROR"


def test_an_app_gets_the_documented_variables_and_none_of_the_hubs(running, monkeypatch) -> None:
    monkeypatch.setenv("HUB_ADMINS_OWN_SECRET", "do-not-pass-on")
    space = running.space(
        space_variables=[{"key": "GREETING", "value": "moin"}],
        space_secrets=[{"key": "API_KEY", "value": "s3cret-value"}],
    )
    given = space.seen()["environment"]
    namespace, _, name = space.repo_id.partition("/")
    expected = {
        "SYSTEM": "spaces", "SPACE_ID": space.repo_id, "SPACE_AUTHOR_NAME": namespace,
        "SPACE_REPO_NAME": name, "SPACE_TITLE": "A test", "GREETING": "moin",
        "API_KEY": "s3cret-value", "HF_ENDPOINT": running.url, "MEMORY": "0.5Gi",
        "SPACE_HOST": space.host.removeprefix("http://"),
    }  # fmt: skip
    assert {key: given.get(key) for key in expected} == expected
    assert "HUB_ADMINS_OWN_SECRET" not in given
    assert not any(running.token in value for value in given.values())
    assert space.get("/").text == "moin"


def test_an_app_that_signs_people_in_gets_its_client(running, app) -> None:
    space = running.space(None)
    readme = "---\nsdk: gradio\nhf_oauth: true\nhf_oauth_scopes: [email]\n---\n"
    space.push(app=app, readme=readme)
    space.until("RUNNING")
    given = space.seen()["environment"]
    assert given["OAUTH_SCOPES"] == "openid profile email"
    assert given["OPENID_PROVIDER_URL"] == running.url
    assert given["OAUTH_CLIENT_ID"] and given["OAUTH_CLIENT_SECRET"]
    found = httpx.get(
        given["OPENID_PROVIDER_URL"] + "/.well-known/openid-configuration", timeout=60
    ).json()
    assert found["authorization_endpoint"].startswith(running.url)


def test_the_answers_keys_are_those_of_the_public_hub(probe) -> None:
    # Source: the schema the public hub's own OpenAPI description gives a Space's runtime.
    required = {"stage", "hardware", "replicas"}
    known = required | {
        "storage", "gcTimeout", "errorMessage", "devMode", "domains", "sha", "hotReloading",
        "volumes",
    }  # fmt: skip
    runtime = probe.runtime
    known |= {"isolation"}  # our own: what keeps the Space apart on this machine
    assert required <= runtime.keys() <= known
    assert runtime["hardware"].keys() == {"current", "requested"}
    assert runtime["replicas"] == {"current": 1, "requested": 1}
    assert all(one.keys() == {"domain", "stage"} for one in runtime["domains"])


def test_metrics_stream_what_an_app_uses(running, probe) -> None:
    address = f"{running.url}/api/spaces/{probe.repo_id}/metrics"
    bearer = {"authorization": f"Bearer {running.token}"}
    with httpx.stream("GET", address, headers=bearer, timeout=60, trust_env=False) as answer:
        line = next(line for line in answer.iter_lines() if line.startswith("data: "))
    measured = json.loads(line.removeprefix("data: "))
    assert 2**20 < measured["memory_used_bytes"] < measured["memory_total_bytes"] == 2**29


def test_secrets_are_named_but_never_told(running) -> None:
    space = running.space(space_secrets=[{"key": "API_KEY", "value": "s3cret-value"}])
    space.api.add_space_secret(space.repo_id, "OTHER", "t0p", description="of another")
    listed = space.api.get_space_secrets(space.repo_id)
    assert sorted(listed) == ["API_KEY", "OTHER"]
    assert listed["OTHER"].description == "of another"
    space.until("RUNNING")
    wait_for(lambda: space.seen()["environment"].get("OTHER") == "t0p")
    headers = {"authorization": f"Bearer {running.token}"}
    for path in ("", "/secrets", "/variables", "/runtime"):
        body = httpx.get(
            f"{running.url}/api/spaces/{space.repo_id}{path}", headers=headers, timeout=60
        ).text
        assert "s3cret" not in body and "t0p" not in body
    # In another process: closing the files in this one would let go of SQLite's locks on them.
    files = list(running.root.glob("hub.db*"))
    stored = subprocess.run(["cat", *files], capture_output=True, check=True).stdout
    assert b"s3cret-value" not in stored
    records = (running.root / "spaces" / "processes").glob("*.json")
    assert not any("s3cret" in path.read_text() for path in records)
    space.api.delete_space_secret(space.repo_id, "API_KEY")
    wait_for(lambda: "API_KEY" not in space.seen()["environment"])


def test_a_changed_variable_takes_effect_without_a_gap(running) -> None:
    space = running.space()
    failures = []
    over = threading.Event()
    host = space.host

    def ask() -> None:
        while not over.is_set():
            answer = httpx.get(host + "/", timeout=60, trust_env=False)
            if answer.status_code != 200:
                failures.append(answer.status_code)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        space.api.add_space_variable(space.repo_id, "GREETING", "moin")
        wait_for(lambda: space.get("/").text == "moin")
    finally:
        over.set()
        asking.join()
    assert failures == []
    assert space.api.get_space_variables(space.repo_id)["GREETING"].value == "moin"


def test_restart_starts_another_process_at_the_same_address(running) -> None:
    space = running.space()
    host, before = space.host, space.start_mark()
    space.api.restart_space(space.repo_id)
    wait_for(lambda: space.start_mark() != before)
    space.until("RUNNING")
    assert space.host == host
    assert space.get("/").text == "hello"


def test_logs_of_build_and_run_stream(running) -> None:
    space = running.space()
    build = list(space.api.fetch_space_logs(space.repo_id, build=True))
    assert build[0].startswith("===== Build of ") and build[-1].startswith("===== Build finished")
    lines = space.api.fetch_space_logs(space.repo_id, follow=True)
    assert next(line for line in lines if "the probe starts" in line) == "the probe starts\n"
    space.get("/crash")
    assert next(line for line in lines if "crash" in line) == "about to crash\n"
    _, stranger = running.user()
    answer = httpx.get(
        f"{running.url}/api/spaces/{space.repo_id}/logs/run",
        headers={"authorization": f"Bearer {stranger}"},
        timeout=60,
    )
    assert answer.status_code == 403


def test_an_app_that_ends_at_once_is_a_runtime_error_with_its_log(running) -> None:
    space = running.space(None)
    space.push(app="print('last words'); raise SystemExit(4)", readme="---\nsdk: gradio\n---\n")
    runtime = space.until("RUNTIME_ERROR")
    assert "exit code 4" in runtime["errorMessage"]
    assert "last words\n" in list(space.api.fetch_space_logs(space.repo_id))


def test_a_broken_version_leaves_the_previous_one_serving(running) -> None:
    space = running.space()
    sha = space.runtime["sha"]
    space.push(app="raise SystemExit('no good')")
    runtime = space.until("RUNTIME_ERROR")
    assert runtime["sha"] == sha
    assert sha[:12] in runtime["errorMessage"]
    assert space.get("/").text == "hello"
    fixed = space.push(app="import http.server as h, os\nh.HTTPServer(('', int(os.environ['PORT'])"
                           "), h.SimpleHTTPRequestHandler).serve_forever()")  # fmt: skip
    wait_for(lambda: space.runtime.get("sha") == fixed)
    assert space.stage == "RUNNING"


def test_a_newer_commit_replaces_an_attempt_under_way(running, app) -> None:
    space = running.space(None)
    space.push(app="import time; time.sleep(600)", readme="---\nsdk: gradio\n---\n")
    space.until("APP_STARTING")
    space.push(app=app)
    space.until("RUNNING")
    records = running.root / "spaces" / "processes"
    wait_for(lambda: len(list(records.glob(f"space-{space.uid}-*.json"))) == 1)


def test_a_crash_is_reported_and_the_app_restarted(running) -> None:
    space = running.space()
    before = space.start_mark()
    space.get("/crash?code=7")
    runtime = wait_for(lambda: (now := space.runtime) and "errorMessage" in now and now)
    assert runtime["stage"] == "RUNTIME_ERROR"
    assert "exit code 7" in runtime["errorMessage"] and "starts again" in runtime["errorMessage"]
    space.until("RUNNING")
    assert space.start_mark() != before


def test_too_much_memory_ends_an_app_and_says_so(running) -> None:
    space = running.space()
    space.get("/eat?megabytes=700")
    runtime = wait_for(lambda: (now := space.runtime) and "errorMessage" in now and now)
    assert "512 MiB are allowed" in runtime["errorMessage"]


def test_too_many_processes_end_an_app_and_it_says_so(running) -> None:
    space = running.space()
    space.get("/fork")
    runtime = wait_for(lambda: (now := space.runtime) and "errorMessage" in now and now)
    assert "24 are allowed" in runtime["errorMessage"]


def test_pause_holds_until_a_restart(running) -> None:
    space = running.space()
    assert space.api.pause_space(space.repo_id).stage == "PAUSED"
    answer = space.get("/", headers={"accept": "text/html"})
    assert answer.status_code == 503 and "paused" in answer.text
    space.push(readme="---\nsdk: gradio\ntitle: pushed while paused\n---\n")
    time.sleep(0.5)
    assert space.stage == "PAUSED"
    space.api.restart_space(space.repo_id)
    space.until("RUNNING")
    assert space.seen()["environment"]["SPACE_TITLE"] == "pushed while paused"


def test_an_idle_space_sleeps_and_wakes_on_a_request(running) -> None:
    space = running.space(space_hardware="cpu-upgrade")
    assert space.api.set_space_sleep_time(space.repo_id, 1).sleep_time == 1
    space.until("SLEEPING")
    space.api.set_space_sleep_time(space.repo_id, -1)
    assert space.get("/").text == "hello"
    assert space.stage == "RUNNING"
    assert space.runtime["gcTimeout"] is None


def test_many_requests_wake_a_space_once(running) -> None:
    space = running.space()
    namespace, name = space.repo_id.split("/")
    httpx.post(
        f"{running.url}/api/spaces/{namespace}/{name}/sleep",
        headers={"authorization": f"Bearer {running.token}"},
        timeout=60,
    )
    assert space.stage == "SLEEPING"
    host = space.host
    answers: list[str] = []
    askers = [
        threading.Thread(
            target=lambda: answers.append(
                httpx.get(host + "/seen", timeout=90, trust_env=False).json()["environment"][
                    "TRIPTYCH_CHILD"
                ]
            )
        )
        for _ in range(8)
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len(answers) == 8 and len(set(answers)) == 1


def test_a_person_sees_a_page_while_a_space_wakes(running, app) -> None:
    space = running.space("import time; time.sleep(1.5)\n" + app)
    httpx.post(
        f"{running.url}/api/spaces/{space.repo_id}/sleep",
        headers={"authorization": f"Bearer {running.token}"},
        timeout=60,
    )
    page = space.get("/", headers={"accept": "text/html,*/*"})
    assert page.status_code == 503
    assert 'http-equiv="refresh"' in page.text and "http" not in page.text.split("refresh")[1][:40]
    assert page.headers["retry-after"] == "2"
    space.until("RUNNING")


def test_hardware_is_a_field(running, probe) -> None:
    space = running.space(None, space_hardware="t4-small", space_sleep_time=3600)
    assert space.runtime["hardware"]["requested"] == "t4-small"
    assert space.runtime["gcTimeout"] == 3600
    changed = space.api.request_space_hardware(space.repo_id, "cpu-upgrade", sleep_time=60)
    assert changed.requested_hardware == "cpu-upgrade" and changed.sleep_time == 60


def test_a_static_space_is_served_without_a_process(running) -> None:
    space = running.space(None)
    space.push(
        readme="---\nsdk: static\ncustom_headers: {cross-origin-opener-policy: same-origin}\n---\n",
        **{"index.html": "<h1>still</h1>", "a b__x.txt": "deep"},
    )
    space.until("RUNNING")
    assert space.get("/").text == "<h1>still</h1>"
    assert space.get("/a%20b/x.txt").text == "deep"
    assert space.get("/nothing").status_code == 404


def test_moving_a_space_tells_its_app_the_new_name(running) -> None:
    space = running.space()
    target = space.repo_id + "-moved"
    host = space.host
    space.api.move_repo(space.repo_id, target, repo_type="space")
    space.repo_id = target
    wait_for(lambda: space.seen()["environment"]["SPACE_ID"] == target)
    assert space.host == host


def test_deleting_a_space_ends_its_processes_and_frees_its_address(running) -> None:
    space = running.space()
    host, uid = httpx.URL(space.host), space.uid
    record = next((running.root / "spaces" / "processes").glob(f"space-{uid}-*.json"))
    identity = Identity.from_dict(json.loads(record.read_text()))
    assert identity.alive()
    space.api.delete_repo(space.repo_id, repo_type="space")
    wait_for(lambda: not identity.alive())
    wait_for(lambda: not (running.root / "spaces" / uid).exists())

    def refused() -> bool:
        try:
            socket.create_connection((host.host, host.port), timeout=1).close()
        except OSError:
            return True
        return False

    wait_for(refused)


def test_large_files_and_deletions_reach_the_tree(running) -> None:
    space = running.space()
    space.push(**{"weights.bin": b"\0" * 300_000, "old.txt": "x"})
    space.api.create_commit(
        space.repo_id,
        [CommitOperationDelete("old.txt"), CommitOperationAdd("new.txt", b"new")],
        commit_message="swap",
        repo_type="space",
    )
    wait_for(lambda: space.get("/read?path=new.txt").text == "new")
    assert space.get("/read?path=weights.bin").content == b"\0" * 300_000
    assert space.get("/read?path=old.txt").status_code == 404


def test_no_process_is_left_behind_by_all_this(running, probe) -> None:
    supervised = {
        status.pid for status in running.services.spaces._supervisor.statuses() if status.pid
    }
    mine = {
        child.pid
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "bwrap" in child.name()
    }
    assert mine <= supervised
