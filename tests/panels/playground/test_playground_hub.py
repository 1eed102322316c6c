"""The Playground finds models on a hub, opens the revision it is asked for, and says which."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import uvicorn
from browsing import serving
from huggingface_hub import HfApi, constants
from playwright.sync_api import expect

from triptych.cli.resolve import resolve
from triptych.config import load_config
from triptych.config.hub import HubConfig
from triptych.hub.server.http.app import create_app
from triptych.hub.server.http.serving import settings
from triptych.panels.playground.app import build_app

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

AGES = ("step-00000010", "step-00000040")
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HfApi]:
    """An embedded hub on loopback, as its administrator speaks to it."""
    root = tmp_path_factory.mktemp("hub")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = uvicorn.Server(settings(create_app(HubConfig(root=str(root), port=port))))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive() and time.monotonic() < deadline, "the hub did not start"
        time.sleep(0.02)
    token = (root / "admin_token").read_text().strip()
    yield HfApi(endpoint=f"http://127.0.0.1:{port}", token=token)
    server.should_exit = True
    thread.join(timeout=60)


@pytest.fixture(scope="module")
def commits(hub: HfApi, run_folder: Path) -> dict[str, str]:
    """Two ages of one model as two tagged commits, and a repository for members only."""
    hub.create_repo("admin/topics")
    hub.create_repo("admin/topics-gated")
    found = {}
    for age in AGES:
        folder = run_folder / "checkpoints" / age
        found[age] = hub.upload_folder(
            repo_id="admin/topics", folder_path=folder, ignore_patterns=["optimizer*"]
        ).oid
        hub.create_tag("admin/topics", tag=age, revision=found[age])
    hub.upload_folder(
        repo_id="admin/topics-gated", folder_path=folder, ignore_patterns=["optimizer*"]
    )
    hub.update_repo_settings("admin/topics-gated", gated="manual")
    return found


@pytest.fixture(scope="module")
def module_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("playground-home")


@pytest.fixture(scope="module")
def address(
    hub: HfApi,
    commits: dict[str, str],
    module_home: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """One Playground without runs of its own, for every test of this file; it speaks as nobody."""
    cache = str(tmp_path_factory.mktemp("downloads"))
    config = load_config(None, ["generate.threads=1", "panels.hub_models=public"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_CACHE", cache)
        patch.setenv("HF_ENDPOINT", hub.endpoint)
        patch.setenv("TRIPTYCH_HOME", str(module_home))
        with serving(build_app(config, resolve)) as place:
            yield place


@pytest.fixture(autouse=True)
def same_home(module_home: Path, monkeypatch: pytest.MonkeyPatch, own_home: Path) -> None:
    """The server reads its home while it runs, so that each test's own home must not hide it."""
    monkeypatch.setenv("TRIPTYCH_HOME", str(module_home))


def link_to(address: str, *references: str) -> str:
    """Return the address of a comparison of short answers."""
    state = [references, "Once ", 0.8, 0, 1, 0, 1, 8, 1]
    return f"{address}/?c={quote(json.dumps(state))}"


def test_the_search_lists_a_models_ages_and_the_chosen_one_answers(
    open_page: Any, address: str, commits: dict[str, str]
) -> None:
    page = open_page(link_to(address))
    # The address is read after the page is drawn; what is chosen before that would be lost.
    expect(page.get_by_label("Prompt")).to_have_value("Once ", timeout=WAIT_MS)
    page.get_by_role("button", name="More models, from the hub").click()
    page.get_by_label("Search").fill("topi")
    page.get_by_role("button", name="Search", exact=True).click()
    found = page.locator("[data-pick]")
    expect(found).to_have_count(2, timeout=WAIT_MS)
    expect(page.locator("[data-pick='admin/topics']")).to_be_visible()

    page.get_by_label("Search").fill("admin/topics")
    page.get_by_label("Search").press("Enter")
    young = page.locator(f"[data-pick='admin/topics@{AGES[0]}']")
    young.click(timeout=WAIT_MS)
    expect(page.locator(".token")).to_have_count(1, timeout=WAIT_MS)
    page.get_by_role("button", name="Generate", exact=True).click()
    answer = page.locator(".answer[data-done=true]")
    expect(answer).to_have_count(1, timeout=WAIT_MS)
    expect(answer.locator("h3")).to_contain_text(f"admin/topics@{AGES[0]}")
    expect(answer.locator(".foot")).to_contain_text(f"revision {commits[AGES[0]][:12]}")


def test_two_revisions_answer_side_by_side_and_a_gated_one_says_why_not(
    open_page: Any, address: str, commits: dict[str, str]
) -> None:
    young, old = f"admin/topics@{AGES[0]}", f"admin/topics@{commits[AGES[1]]}"
    page = open_page(link_to(address, young))
    answers = page.locator(".answer[data-done=true]")
    expect(answers).to_have_count(1, timeout=WAIT_MS)
    for count, reference in enumerate((old, "admin/topics-gated"), 2):
        models = page.get_by_role("combobox", name="Models", exact=True)
        models.fill(reference)
        models.press("Enter")
        expect(page.locator(".token")).to_have_count(count, timeout=WAIT_MS)
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(answers).to_have_count(3, timeout=WAIT_MS)
    for answer, age in zip(answers.all()[:2], AGES, strict=True):
        expect(answer.locator(".foot")).to_contain_text(f"revision {commits[age][:12]}")
    expect(answers.nth(2).get_by_role("alert")).to_contain_text(re.compile("gated.*access", re.S))
