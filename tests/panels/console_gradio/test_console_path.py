"""The whole path of an administrator in a real browser, over a house brought up by one command."""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from browsing import screenshot
from living import SPACE, Client, House, living
from playwright.sync_api import expect
from safetensors.numpy import save
from written_runs import make

from triptych.config import load_config
from triptych.hub.client import Hub
from triptych.hub.repository import Repo
from triptych.lm.data.build import build_corpus
from triptych.lm.runs.store import RunStore

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

Opened = Callable[..., Any]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with living(tmp_path_factory.mktemp("house") / "home") as found:
        yield found


@pytest.fixture
def console(house: House, open_page: Opened) -> Opened:
    """Open the Console and sign in, with the first admin's key unless told otherwise."""

    def sign_in(key: str = "", **options: Any) -> Any:
        page = open_page(f"{house.web}/console/", **options)
        page.get_by_label("Admin key").fill(key or house.key)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("tab", name="Overview").wait_for()
        return page

    return sign_in


def enter(page: Any, tab: str) -> None:
    """Open a tab; none hides behind the others."""
    page.get_by_role("tab", name=tab, exact=True).click()
    if tab == "Providers and tiers":
        page.get_by_text("Order:").wait_for()


def agree(page: Any, label: str, *words: str, yes: str = "") -> str:
    """Press a button that asks once, read what it says will happen, and agree."""
    page.get_by_role("button", name=label, exact=True).click()
    asking = page.locator(".asking:visible")
    asking.get_by_role("alert").wait_for()
    for word in words:
        expect(asking).to_contain_text(word)
    read = str(asking.inner_text())
    asking.get_by_role("button", name=yes or f"Yes, {label[0].lower()}{label[1:]}").click()
    asking.wait_for(state="hidden")
    return read


def apply(page: Any, change: str, *words: str) -> None:
    """Apply what was chosen; the tab is read again after it, over whatever is chosen before."""
    latest = page.locator("tbody:visible").first.locator("tr td").first
    before = latest.inner_text()
    agree(page, "Apply", *words, yes="Apply these changes")
    said(page, change)
    expect(latest).not_to_have_text(before)


def said(page: Any, text: str) -> None:
    page.get_by_role("status").get_by_text(text).first.wait_for()


def chosen(page: Any, info: str) -> Any:
    """Find the field that a chosen row fills."""
    return page.locator("label:visible", has_text=info).locator("input, textarea")


def choose_provider(page: Any, name: str) -> None:
    enter(page, "Providers and tiers")
    page.get_by_label(name, exact=True).check()
    apply(page, f"provider = {name}")


def test_the_first_page_explains_the_panels_and_leads_to_each(
    house: House, open_page: Opened
) -> None:
    page = open_page(house.web)
    for name in ("Studio", "Playground", "Console"):
        page.get_by_role("link", name=name).first.wait_for()
    screenshot(page, "landing-1200")
    page.get_by_role("link", name="Console").first.click()
    page.get_by_label("Admin key").wait_for()


def test_switching_the_provider_fails_nobody_who_streams(house: House, console: Opened) -> None:
    house.call("PUT", "/admin/flags/provider.hf_spaces", {"value": False})
    page = console()
    enter(page, "Providers and tiers")
    page.get_by_label("Spaces", exact=True).check()
    with Client(house) as client:
        client.wait_for("openai")
        apply(page, "provider.hf_spaces = True", "provider.hf_spaces on")
        choose_provider(page, "hf_spaces")
        client.wait_for("hf_spaces")
        choose_provider(page, "openai")
        client.wait_for("openai")
        choose_provider(page, "auto")
        client.wait_for("hf_spaces")
    broken = [answer for answer in client.answers if not answer[1]]
    assert broken == [], "every stream came whole"
    assert len(client.answers) > 4


def test_one_company_gets_its_tier_and_no_other_does(house: House, console: Opened) -> None:
    house.use_spaces()
    page = console()
    enter(page, "Companies, users, keys")
    page.get_by_role("button", name="Enter or change a company").click()
    for company in ("acme", "zorblax"):
        page.get_by_label("Company id").fill(company)
        page.get_by_label("Company name").fill(company.title())
        page.get_by_role("button", name="Enter company").click()
        said(page, f"Company {company} added")
    keys = {
        company: house.call("POST", "/api/keys", {"name": company, "company_id": company})["key"]
        for company in ("acme", "zorblax")
    }
    enter(page, "Providers and tiers")
    page.get_by_role("button", name="Gradual rollout and exceptions").click()
    page.get_by_label("Its id").fill("acme")
    page.get_by_role("button", name="Set the exception").click()
    said(page, "tier.company is on for acme")
    answered = house.chat(keys["acme"], "company")
    assert "From the Space" in answered["choices"][0]["message"]["content"]
    house.chat(keys["zorblax"], "company")
    served = {
        company: house.requests(company_id=company)[0]["tier_served"]
        for company in ("acme", "zorblax")
    }
    assert served == {"acme": "company", "zorblax": "base"}
    # One request is found by its company, and its waterfall says why it went where it went.
    enter(page, "Requests")
    row = page.locator("button.pick:visible")
    row.nth(1).wait_for()
    page.get_by_label("Company", exact=True).locator("visible=true").fill("acme")
    page.keyboard.press("Enter")
    expect(row).to_have_count(1)
    row.click()
    page.locator(".waterfall").wait_for()
    page.locator(".waterfall").get_by_text("space-base").wait_for()
    page.locator("dl.facts:visible").get_by_text("tier.company = on").wait_for()
    screenshot(page, "console-requests")


def test_i2_a_bad_answer_is_seen_and_a_new_revision_deployed_and_taken_back(
    house: House, console: Opened, open_page: Opened
) -> None:
    """Acceptance check I2, without dataset, training and promotion."""
    house.use_spaces()
    page = console()
    choose_provider(page, "hf_spaces")
    assert revision(house) == house.revisions[0]
    link = json.dumps([["gateway:base"], "Say ", 0.8, 0, 1, 0, 1, 12, 1])
    play = open_page(f"{house.web}/playground/?c={quote(link)}")
    play.get_by_text("gateway · base").first.wait_for()
    play.get_by_role("button", name="Generate", exact=True).click()
    play.get_by_role("button", name="Not good").click()
    play.get_by_text("Also stored as feedback.").wait_for()
    assert play.title() != "owned", "what a model wrote is text in the Playground too"
    asked = house.requests(feature="playground")[0]["request_id"]
    enter(page, "Feedback")
    page.locator("tr", has_text=asked).get_by_text("negative").wait_for()
    enter(page, "Spaces")
    page.locator("button.pick:visible", has_text="space-base").click()
    expect(chosen(page, "choose one above, or type a new one")).to_have_value("space-base")
    page.get_by_role("button", name="Test the connection").click()
    said(page, "space-base answers")
    page.get_by_label("Space", exact=True).locator("visible=true").fill(SPACE)
    model = page.get_by_label("Model to deploy")
    model.fill("admin/base@nowhere")
    page.get_by_role("button", name="Deploy", exact=True).click()
    page.get_by_role("alert").get_by_text("no such branch, tag or commit").wait_for()
    expect(model, "a refused form keeps what was typed").to_have_value("admin/base@nowhere")
    model.fill(f"admin/base@{house.revisions[1]}")
    told = [f"admin/base@{commit}" for commit in house.revisions]
    agree(page, "Deploy", *told, "until then, and if it fails, it serves what it serves now")
    said(page, f"Live: admin/base@{house.revisions[1]}")
    assert revision(house) == house.revisions[1]
    screenshot(page, "console-spaces")
    agree(page, "Roll back")
    said(page, f"Live again: admin/base@{house.revisions[0]}")
    assert revision(house) == house.revisions[0]
    choose_provider(page, "auto")


def revision(house: House) -> str:
    """Ask which revision answers now."""
    return str(house.chat()["system_fingerprint"])


def test_what_a_model_wrote_is_shown_as_text_and_a_correction_beside_it(
    house: House, console: Opened
) -> None:
    house.use_spaces()
    house.call("POST", "/admin/companies", {"company_id": "noted", "name": "Noted"})
    key = house.call("POST", "/api/keys", {"name": "noted", "company_id": "noted"})["key"]
    house.call(
        "PUT", "/api/consent", {"purpose": "improve", "granted": True, "company_id": "noted"}
    )
    house.call("PUT", "/admin/flags/log.content", {"value": True})
    time.sleep(0.6)
    house.chat(key, company="noted")
    given = {"kind": "correction", "value": "<img src=x onerror=alert(1)> better",
             "request_id": house.requests(company_id="noted")[0]["request_id"]}  # fmt: skip
    assert isinstance(house.call("POST", "/api/feedback", given, key), dict)
    blind = console()
    enter(blind, "Feedback")
    blind.locator("button.pick:visible").first.click()
    blind.get_by_role("alert").get_by_text("this key may not read content").wait_for()
    may_read = {"name": "reader", "role": "admin", "scopes": ["content"]}
    page = console(house.call("POST", "/api/keys", may_read)["key"])
    enter(page, "Feedback")
    page.locator("button.pick:visible").first.click()
    page.get_by_text("document.title='owned'").first.wait_for()
    page.get_by_text("<img src=x onerror=alert(1)> better").first.wait_for()
    assert page.title() != "owned"
    assert page.locator("img[src=x]").count() == 0
    screenshot(page, "console-feedback")
    seen = [row["action"] for row in house.call("GET", "/admin/audit?limit=9")["entries"]]
    assert {"content.view", "content.view_refused"} <= set(seen)


def test_a_revoked_key_is_refused(house: House, console: Opened) -> None:
    page = console()
    enter(page, "Companies, users, keys")
    page.get_by_role("button", name="Create a key").click()
    page.get_by_label("Name of the key").fill("<b>app</b>")
    page.get_by_role("button", name="Create key").click()
    shown = page.get_by_role("status").locator("code")
    shown.wait_for()
    key = shown.inner_text()
    assert isinstance(house.chat(key), dict)
    page.locator("tr", has_text="<b>app</b>").locator("button.pick").click()
    expect(chosen(page, "choose a row above, or type it")).not_to_have_value("")
    agree(page, "Revoke key", "<b>app</b> are refused within a second")
    said(page, "Revoked:")
    deadline = time.monotonic() + 60
    while house.chat(key) != 401:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_i3_two_admins_see_the_same_and_meet_in_a_conflict(house: House, console: Opened) -> None:
    house.call("PUT", "/admin/flags/cache", {"value": True})
    rows = house.call("GET", "/admin/flags")["flags"]
    (version,) = (row["version"] for row in rows if row["key"] == "cache")
    one, other = console(), console()
    for page in (one, other):
        enter(page, "Providers and tiers")
    # Both act on what they read; the second is told, and keeps what was chosen.
    one.get_by_label("Cache answers").uncheck()
    apply(one, "cache = False")
    other.get_by_label("Cache answers").uncheck()
    agree(other, "Apply", yes="Apply these changes")
    conflict = f"cache is at version {version + 1}, not {version}"
    other.get_by_role("alert").get_by_text(conflict).wait_for()
    expect(other.get_by_label("Cache answers")).not_to_be_checked()
    other.get_by_role("button", name="Refresh").click()
    enter(one, "Audit")
    one.get_by_role("button", name="Verify the chain").click()
    said(one, "every one sound")


def test_i3_the_keyboard_alone_is_enough(house: House, open_page: Opened) -> None:
    page = open_page(f"{house.web}/console/", width=360)
    page.get_by_label("Admin key").focus()
    page.keyboard.type(house.key)
    page.keyboard.press("Enter")
    last = page.get_by_role("tab", name="Audit", exact=True)
    last.wait_for()
    last.focus()
    page.keyboard.press("Enter")
    verify = page.get_by_role("button", name="Verify the chain")
    verify.wait_for()
    verify.focus()
    page.keyboard.press("Enter")
    said(page, "every one sound")


def test_i3_another_site_can_neither_act_nor_frame(house: House) -> None:
    """A foreign page has no session: whatever it sends is refused or does nothing."""
    body = json.dumps({"data": [], "fn_index": 0, "session_hash": "guess"}).encode()
    for path in ("/console/gradio_api/queue/join", "/api/runs"):
        request = urllib.request.Request(
            house.web + path, body,
            {"content-type": "text/plain", "origin": "https://elsewhere.example"},
        )  # fmt: skip
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        assert refused.value.code == 403
    with urllib.request.urlopen(f"{house.web}/console/", timeout=30) as answer:
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
        assert house.key not in answer.read().decode()


def test_i1_whoever_is_no_admin_reads_and_sets_nothing(house: House, open_page: Opened) -> None:
    """Acceptance check I1: over the API and on the page."""
    house.call("POST", "/admin/companies", {"company_id": "own", "name": "Own"})
    roles = {
        role: house.call("POST", "/api/keys", {"name": role, "role": role, "company_id": "own"})
        for role in ("user", "company_admin")
    }
    for made in roles.values():
        for method, path, body in (
            ("GET", "/admin/flags", None),
            ("PUT", "/admin/flags/cache", {"value": False}),
            ("GET", "/admin/upstreams", None),
            ("GET", "/admin/users", None),
            ("GET", "/admin/audit", None),
            ("POST", "/api/keys", {"name": "more", "role": "admin"}),
            ("GET", "/api/requests?company_id=acme", None),
        ):
            assert house.call(method, path, body, made["key"]) == 403, path
    page = open_page(f"{house.web}/console/")
    page.get_by_label("Admin key").fill(f"  {roles['user']['key']} ")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").get_by_text("this key is not an admin's").wait_for()
    # A company's admin sees the tabs of its company, and nothing of anybody else's.
    page.get_by_label("Admin key").fill(f"  {roles['company_admin']['key']} ")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("company admin of own").wait_for()
    for hidden in ("Providers and tiers", "Spaces", "Audit"):
        page.get_by_role("tab", name=hidden, exact=True).wait_for(state="hidden")
    enter(page, "Companies, users, keys")
    page.locator("button.pick:visible", has_text="own").first.wait_for()
    assert page.locator("button.pick", has_text="acme").count() == 0


def test_i1_a_secret_is_written_trimmed_and_never_shown(house: House, console: Opened) -> None:
    page = console()
    enter(page, "Spaces")
    page.get_by_label("Name of the secret", exact=True).fill("OWN_TOKEN")
    value = page.locator("input[type=password]:visible")
    value.fill("  hf_neverseen1234 ")
    page.get_by_role("button", name="Enter secret").click()
    said(page, "Secret OWN_TOKEN saved, ending with")
    expect(value).to_have_value("")
    page.locator("button.pick:visible", has_text="OWN_TOKEN").wait_for()
    assert "neverseen" not in page.content()
    (row,) = house.call("GET", "/admin/secrets")["secrets"]
    assert row["name"] == "OWN_TOKEN"
    assert "hf_neverseen1234".endswith(row["hint"].lstrip("…."))
    agree(page, "Remove secret", "out of use with the same act")
    said(page, "Removed: OWN_TOKEN")
    page.get_by_role("button", name="Remove secret").click()
    page.get_by_role("alert").get_by_text("there is no secret").wait_for()


def test_a_budget_a_wish_a_consent_and_a_model_are_entered_by_form(
    house: House, console: Opened
) -> None:
    house.call("POST", "/admin/companies", {"company_id": "frugal", "name": "Frugal"})
    page = console()
    enter(page, "Companies, users, keys")
    page.get_by_role("button", name="Set or end a budget").click()
    page.locator("#budget-of textarea, #budget-of input").fill("frugal")
    page.get_by_label("Tokens at most").fill("1000")
    agree(page, "Set budget", "company frugal is refused once it has used this")
    said(page, "Budget set: company frugal, month")
    page.locator("tr", has_text="company:frugal month").get_by_text("0 of 1").wait_for()
    enter(page, "Privacy")
    page.get_by_role("button", name="New request").click()
    page.get_by_label("About company").fill("frugal")
    agree(page, "Ask for it", "every download is audited")
    said(page, "company frugal")
    page.locator("tr:visible", has_text="frugal").first.wait_for()
    page.get_by_label("Consents of company").fill("frugal")
    agree(page, "Allow")
    said(page, "Allowed for frugal")
    enter(page, "Models")
    page.get_by_label("Published model").fill(f"admin/base@{house.revisions[0]}")
    agree(page, "Enter model", "It answers no request before it is deployed")
    said(page, "Model admin/base added")
    page.locator("button.pick:visible").first.click()
    page.locator("dl.facts:visible").get_by_text("parent model").wait_for()


def leave(page: Any, flying: set[Any]) -> None:
    """Let what is asked be answered before one leaves, which would be an error on the console."""
    quiet, deadline = 0, time.monotonic() + 30
    while quiet < 6 and time.monotonic() < deadline:
        page.wait_for_timeout(100)
        waiting = any("heartbeat" not in request.url for request in flying)
        quiet = 0 if waiting else quiet + 1


def trained(house: House, data: Path) -> str:
    """Let the house train a small model, over its API, and wait for its end."""
    settings = [
        f"train.data={data}", "model.size=nano", "train.steps=4", "train.context_length=64",
        "train.batch_tokens=256", "train.threads=1", "train.compile=off", "train.eval_every=4",
        "train.checkpoint_every=4", "train.sample_every=0", "train.precision=float32",
    ]  # fmt: skip
    request = urllib.request.Request(
        f"{house.web}/api/runs", json.dumps({"settings": settings, "name": "topics"}).encode(),
        {"content-type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=60) as answer:
        run_id = str(json.loads(answer.read())["run_id"])
    deadline = time.monotonic() + 240
    while True:
        with urllib.request.urlopen(f"{house.web}/api/runs/{run_id}", timeout=60) as answer:
            state = json.loads(answer.read())["state"]
        if state == "succeeded":
            return run_id
        assert state not in ("failed", "cancelled") and time.monotonic() < deadline, state
        time.sleep(0.2)


def choose_checkpoint(page: Any, run: str, repo: str) -> None:
    enter(page, "Models")
    page.get_by_role("button", name="Publish a checkpoint of a run").click()
    page.get_by_label("Run", exact=True).locator("visible=true").click()
    page.get_by_role("option", name=run).click()
    page.get_by_label("To the repository").fill(repo)


def test_what_cannot_be_published_is_refused_and_not_entered(
    house: House, console: Opened, tmp_path: Path
) -> None:
    run = make(RunStore(tmp_path / "runs"), "written", [3.0, 2.0])
    folder = run.path / "checkpoints" / "step-00000002"
    (folder / "model.safetensors").write_bytes(save({"weight": np.ones(4, dtype=np.float32)}))
    (folder / "config.json").write_text('{"model_type": "qwen3"}')
    shutil.move(run.path, house.home / "runs" / run.run_id)
    page = console()
    choose_checkpoint(page, "written ·", "admin/written")
    expect(page.get_by_label("Checkpoint", exact=True)).to_have_value("step 2, the best")
    does = "admin/written is made, private, with one commit"
    agree(page, "Publish", does, "A language model: 4 parameters")
    page.get_by_role("alert").get_by_text("has no tokenizer").wait_for()
    assert not Hub(house.hub, house.token).exists(Repo("admin/written"))
    names = [row["name"] for row in house.call("GET", "/api/models")["models"]]
    assert "admin/written" not in names


@pytest.mark.prove
def test_a_checkpoint_of_a_run_is_published_from_the_models_tab(
    house: House, console: Opened, tmp_path: Path
) -> None:
    """The run is trained by the house, published to its hub, and entered as it lies there."""
    text = tmp_path / "text"
    text.mkdir()
    for name, topic in list(topics.items())[:12]:
        (text / f"{name}.txt").write_text(topic)
    build_corpus([str(text)], house.home / "data" / "topics",
                 load_config(None, ["data.vocab_size=512"]).data)  # fmt: skip
    run_id = trained(house, house.home / "data" / "topics")
    page = console()
    choose_checkpoint(page, "topics ·", "admin/topics")
    expect(page.get_by_label("Checkpoint", exact=True)).to_have_value("step 4, the best")
    does = "admin/topics is made, private, with one commit"
    agree(page, "Publish", does, "A language model:", "checkpoint of step 4.")
    status = page.get_by_role("status").get_by_text("Published: admin/topics@")
    status.wait_for(timeout=180_000)
    told = status.inner_text()
    hub = Hub(house.hub, house.token)
    commit = hub.head(Repo("admin/topics"))
    assert commit in told and hub.is_private(Repo("admin/topics"))
    (row,) = (
        row for row in house.call("GET", "/api/models")["models"] if row["name"] == "admin/topics"
    )
    assert (row["revision"], row["run_id"], row["tier"]) == (commit, run_id, "base")
    assert row["model_id"] in told and row["evaluation"]["step"] == 4
    page.locator("button.pick:visible", has_text=row["model_id"]).wait_for()
    screenshot(page, "console-models-publish")
    page.get_by_role("button", name="Publish", exact=True).click()
    there = f"admin/topics is there already, at {commit[:12]}"
    page.locator(".asking:visible").get_by_text(there).wait_for()


def test_one_sign_in_with_an_account_of_the_hub_holds_everywhere(
    house: House, open_page: Opened
) -> None:
    page = open_page("about:blank")
    flying: set[Any] = set()
    page.on("request", lambda request: flying.add(request))
    for ended in ("requestfinished", "requestfailed"):
        page.on(ended, lambda request: flying.discard(request))
    page.goto(f"{house.web}/console/")
    page.get_by_role("link", name="Sign in with your account of the hub").wait_for()
    leave(page, flying)
    page.get_by_role("link", name="Sign in with your account of the hub").click()
    page.get_by_label("Access token").fill(house.token)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Allow").click()
    page.get_by_text("Signed in as admin@hub, admin.").wait_for()
    page.get_by_role("tab", name="Overview").wait_for()
    leave(page, flying)
    page.reload()
    page.get_by_text("Signed in as admin@hub, admin.").wait_for()
    assert house.token not in page.content()
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies(house.web)}
    assert cookies["triptych_session"]["httpOnly"]
    leave(page, flying)
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Admin key").wait_for()
    assert "triptych_session" not in {c["name"] for c in page.context.cookies(house.web)}
    # A key is remembered in the same way.
    page.get_by_label("Admin key").fill(house.key)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_role("tab", name="Overview").wait_for()
    deadline = time.monotonic() + 60
    while "triptych_session" not in {c["name"] for c in page.context.cookies(house.web)}:
        assert time.monotonic() < deadline
        page.wait_for_timeout(100)
    leave(page, flying)
    page.reload()
    page.get_by_role("tab", name="Overview").wait_for()


TABS = ("Overview", "Providers and tiers", "Requests", "Feedback", "Companies, users, keys",
         "Privacy", "Spaces", "Models", "Audit")  # fmt: skip


QUIET = """() => new Promise(done => {
  let timer = setTimeout(done, 700);
  setTimeout(done, 20000);
  new MutationObserver(() => { clearTimeout(timer); timer = setTimeout(done, 700); })
    .observe(document.body, {subtree: true, childList: true});
})"""


SCROLLING = """() => [...document.querySelectorAll('.table')].some(
  (table) => table.checkVisibility() && table.scrollWidth > table.clientWidth)"""


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1200, "light"),
        (360, "dark"),
        pytest.param(1200, "dark", marks=pytest.mark.prove),
        pytest.param(360, "light", marks=pytest.mark.prove),
    ],
)
def test_i3_every_room_is_accessible_and_fits(
    house: House, console: Opened, width: int, scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()
    found = []
    if width == 1200:  # what every house has, after a while
        house.chat()
        model = {"name": "admin/base", "tier": "base", "hf_model_id": "admin/base"}
        house.call("POST", "/admin/models", model | {"revision": house.revisions[1]})
    page = console(color_scheme=scheme, width=width)
    for tab in TABS:
        enter(page, tab)
        page.evaluate(QUIET)
        name = tab.partition(" ")[0].strip(",").lower()
        screenshot(page, f"console-{name}-{width}-{scheme}")
        for violation in axe.run(page).response["violations"]:
            nodes = [node["html"][:160] for node in violation["nodes"][:3]]
            found.append(f"{tab}: {violation['id']}: {violation['help']}: {nodes}")
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            found.append(f"{tab}: {wide} px wide at {width}")
        if width == 1200 and tab in ("Requests", "Models"):
            page.locator("button.pick:visible").first.wait_for()
            if page.evaluate(SCROLLING):
                found.append(f"{tab}: its table scrolls sideways at {width}")
    assert sorted(set(found)) == []
