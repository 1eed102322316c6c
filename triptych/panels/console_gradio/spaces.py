"""The tab of Spaces and other addresses: enter, test for real, deploy, watch, roll back.

Who answers is the gateway's to know; what a Space runs is the hub's. A deployment goes on when
the page is closed: its ledger is on disk.
"""

from __future__ import annotations

import asyncio
from html import escape
from typing import Any

import gradio as gr

from triptych.errors import TierError, TriptychError
from triptych.hub.client import Hub
from triptych.hub.deployments import MODEL, VERSION, Deployer
from triptych.hub.ledger import Deployment, Ledger
from triptych.hub.repository import Repo, split_revision
from triptych.panels.console_gradio import drawing, secrets
from triptych.panels.console_gradio.tab import (
    QUIET,
    ConsoleTab,
    act_on,
    acts,
    ask_once,
    complaint,
    picked,
    picking_table,
    signed_in,
)
from triptych.panels.gateway_client import GatewayClient, segment

UPSTREAMS = {
    "name": "name",
    "provider": "provider",
    "address": "address",
    "serves": "serves",
    "company_id": "company",
    "revision": "revision",
    "source": "set by",
    "breaker": "breaker",
}
PROVIDERS = ["hf_spaces", "local", "openai"]


def draw(client: gr.State, hub: str | None) -> ConsoleTab:
    """Draw this tab; `hub` is the address of the hub that holds the Spaces."""
    table = picking_table()
    said = gr.HTML()
    name = gr.Textbox(label="Name", info="choose one above, or type a new one")
    test, reset, remove = acts("Test the connection", "Reset after failures", "Remove address")
    tested = act_on(test, [client, name], _test, said)
    closed = act_on(reset, [client, name], _reset, said)
    removed = ask_once(remove, [client, name], warn=_foresee_removal, act=_remove, said=said)
    form, saved = _form(client, name, said)
    gr.Markdown("## Secrets that addresses need")
    kept, entered = secrets.draw(client, said)
    gr.Markdown("## Deploy a model to a Space")
    deployed = _deployments(client, hub)

    async def choose(who: GatewayClient | None, event: gr.EventData) -> list[Any]:
        return await _chosen(who, picked(event))

    table.click(choose, client, [name, *form], **QUIET)
    for event in (tested, closed, removed, saved, *entered, *deployed):
        event.then(_load, client, [table, kept], **QUIET)
    return ConsoleTab(_load, [client], [table, kept])


async def _load(who: GatewayClient | None) -> tuple[str, str]:
    if who is None:
        return "", ""
    try:
        answer = await who.ask("GET", "/admin/upstreams")
        kept = await secrets.load(who)
    except TierError as error:
        return complaint(error), ""
    rows = [{**row, "serves": ", ".join(row["models"])} for row in answer["upstreams"]]
    rows += [
        {**row, "serves": ", ".join(row["models"]), "breaker": "off", "source": "entered"}
        for row in answer["inactive"]
    ]
    return drawing.table(rows, UPSTREAMS, "No provider yet. Add one.", pick="name"), kept


def _form(client: gr.State, name: gr.Textbox, said: gr.HTML) -> tuple[list[Any], Any]:
    with gr.Accordion("Enter or change an address", open=False):
        with gr.Row():
            provider = gr.Dropdown(PROVIDERS, label="Kind", value="hf_spaces", min_width=120)
            address = gr.Textbox(label="Address", info="owner/space or https://…", min_width=200)
            models = gr.Textbox(label="Serves", info="tier=model, …", value="base=", min_width=160)
        with gr.Row():
            company = gr.Textbox(label="Only for company", min_width=120)
            key_name = gr.Textbox(
                label="Name of its secret",
                info="entered below, or in the environment",
                min_width=160,
            )
            active = gr.Checkbox(label="In use", value=True)
        version = gr.State(None)
        save = gr.Button("Save address", variant="primary")
    form = [provider, address, models, company, key_name, active, version]
    return form, act_on(save, [client, name, *form], _save, said)


async def _chosen(who: GatewayClient | None, name: str) -> list[Any]:
    if who is None:
        return [gr.skip() for _ in range(8)]
    answer = await who.ask("GET", "/admin/upstreams")
    entries: list[dict[str, Any]] = answer["upstreams"] + answer["inactive"]
    row = next((entry for entry in entries if entry["name"] == name), {})
    serves = ", ".join(f"{tier}={model}" for tier, model in row.get("models", {}).items())
    return [
        name, row.get("provider", "hf_spaces"), row.get("address", ""), serves,
        row.get("company_id") or "", row.get("key_name", ""), row.get("is_active", True),
        row.get("version"),
    ]  # fmt: skip


async def _save(
    who: GatewayClient | None, name: str, provider: str, address: str, models: str, company: str,
    key_name: str, active: bool, version: int | None,
) -> str:  # fmt: skip
    pairs = (pair.partition("=") for pair in models.split(",") if pair.strip())
    body = {
        "provider": provider,
        "address": address.strip(),
        "models": {tier.strip(): model.strip() for tier, _, model in pairs},
        "company_id": company.strip() or None,
        "key_name": key_name.strip(),
        "is_active": active,
        "expected_version": version,
    }
    await signed_in(who).ask("PUT", _path(name), body)
    return f"Saved: {name.strip()}"


def _path(name: str, verb: str = "") -> str:
    if not name.strip():
        raise TierError("which address?", hint="choose one of the table, or type its name")
    return f"/admin/upstreams/{segment(name)}{verb}"


async def _test(who: GatewayClient | None, name: str) -> str:
    found = await signed_in(who).ask("POST", _path(name, "/test"))
    if not found["ok"]:
        raise TierError(
            f"{name.strip()}: {found['error_code']}", hint=found.get("message") or "no answer"
        )
    facts = [f"{found['latency_s'] * 1000:,.0f} ms", found.get("dialect"), found.get("stage")]
    if found.get("revision"):
        facts.append(f"revision {found['revision'][:12]}")
    return f"{name.strip()} answers: {', '.join(fact for fact in facts if fact)}"


async def _reset(who: GatewayClient | None, name: str) -> str:
    await signed_in(who).ask("POST", _path(name, "/breaker/reset"))
    return f"{name.strip()} is asked again"


async def _foresee_removal(who: GatewayClient | None, name: str) -> str:
    signed_in(who)
    _path(name)
    return (
        f"<p><b>{escape(name.strip())}</b> is no longer asked; the Space itself stays as it is.</p>"
    )


async def _remove(who: GatewayClient | None, name: str) -> str:
    await signed_in(who).ask("DELETE", _path(name))
    return f"Removed: {name.strip()}"


def _deployments(client: gr.State, address: str | None) -> list[Any]:
    with gr.Row():
        space = gr.Textbox(label="Space", placeholder="owner/name", min_width=180)
        model = gr.Textbox(label="Model to deploy", placeholder="owner/name@revision",
                           min_width=180)  # fmt: skip
    state = gr.HTML()
    outcome = gr.HTML()
    look, put, back, wake = acts("Look at the Space", "Deploy", "Roll back", "Restart or wake")

    async def foresee(who: GatewayClient | None, where: str, what: str) -> str:
        await _admin(who)
        return await asyncio.to_thread(_foresee_deployment, address, where.strip(), what.strip())

    async def deploy(who: GatewayClient | None, where: str, what: str) -> str:
        await _admin(who)
        done = await asyncio.to_thread(
            lambda: Deployer(Hub(address)).deploy(what.strip(), Repo.parse(where.strip(), "space"))
        )
        return f"Live: {done.pin}" + await _note(who, where, done)

    async def foresee_back(who: GatewayClient | None, where: str, what: str) -> str:
        await _admin(who)
        return await asyncio.to_thread(_foresee_rollback, address, where.strip())

    async def roll_back(who: GatewayClient | None, where: str, what: str) -> str:
        await _admin(who)
        done = await asyncio.to_thread(
            lambda: Deployer(Hub(address)).roll_back(Repo.parse(where.strip(), "space"))
        )
        return f"Live again: {done.pin}" + await _note(who, where, done)

    async def foresee_restart(who: GatewayClient | None, where: str, what: str) -> str:
        await _admin(who)
        return f"<p><b>{escape(where)}</b> answers no request for some seconds.</p>"

    async def restart(who: GatewayClient | None, where: str, what: str) -> str:
        await _admin(who)
        await asyncio.to_thread(lambda: Hub(address).restart(Repo.parse(where.strip(), "space")))
        return f"{where.strip()} starts again"

    async def show(who: GatewayClient | None, where: str) -> str:
        await _admin(who)
        return await asyncio.to_thread(_state, address, where.strip())

    inputs = [client, space, model]
    events = [
        ask_once(put, inputs, warn=foresee, act=deploy, said=outcome),
        ask_once(back, inputs, warn=foresee_back, act=roll_back, said=outcome),
        ask_once(wake, inputs, warn=foresee_restart, act=restart, said=outcome),
    ]
    looked = act_on(look, [client, space], _nothing, outcome)
    for event in (looked, *events):
        event.then(_guarded(show), [client, space], state, **QUIET)
    return events


async def _nothing(who: GatewayClient | None, where: str) -> str:
    await _admin(who)
    return f"{where.strip()}:"


def _guarded(show: Any) -> Any:
    async def carry_out(*values: Any) -> str:
        try:
            drawn: str = await show(*values)
        except TriptychError as error:
            return complaint(error)
        return drawn

    return carry_out


async def _admin(who: GatewayClient | None) -> None:
    # Asked anew each time: a key may have been revoked since the page was opened.
    if (await signed_in(who).me())["role"] != "admin":
        raise TierError("only an admin of the whole service steers Spaces", code="forbidden")


async def _note(who: GatewayClient | None, where: str, done: Deployment) -> str:
    """Let the gateway write down what is live now; it asks the Space itself before it believes it.

    Returns: why it did not, where it did not.
    """
    body = {
        "space": where.strip(),
        "repo_id": done.pin.model,
        "revision": done.pin.revision,
        "status": "live",
        "deployment_id": done.id,
    }
    try:
        await signed_in(who).ask("POST", "/admin/deployments", body)
    except TierError as error:
        return f"; the gateway's registry does not have it: {error.message}"
    return ""


def _foresee_deployment(address: str | None, where: str, what: str) -> str:
    """Draw what is served now and what would be; refuse what cannot be found."""
    hub, space = Hub(address), Repo.parse(where, "space")
    name, revision = split_revision(what)
    commit = hub.head(Repo.parse(name), revision)
    now = _pinned(hub, space)
    if now == f"{name}@{commit}":
        return (
            f"<p><b>{escape(where)}</b> serves <b>{escape(now)}</b> already; it is looked at.</p>"
        )
    return (
        f"<p><b>{escape(where)}</b> serves <b>{escape(now or 'no model')}</b>. It will serve"
        f" <b>{escape(f'{name}@{commit}')}</b> once it says so itself;"
        " until then, and if it fails, it serves what it serves now.</p>"
    )


def _foresee_rollback(address: str | None, where: str) -> str:
    hub, space = Hub(address), Repo.parse(where, "space")
    live = Ledger().live(hub.endpoint, space)
    before = (
        f"<b>{escape(str(live.previous))}</b>" if live and live.previous else "what it did before"
    )
    return (
        f"<p><b>{escape(where)}</b> serves <b>{escape(_pinned(hub, space) or 'no model')}</b>."
        f" It will serve {before} again.</p>"
    )


def _pinned(hub: Hub, space: Repo) -> str:
    """Return what a Space is configured to serve, as `model@revision`."""
    variables = hub.variables(space)
    return "@".join(variables[name][0] for name in (MODEL, VERSION) if name in variables)


def _state(address: str | None, where: str) -> str:
    hub, space = Hub(address), Repo.parse(where, "space")
    state = hub.space(space)
    health = hub.ask_space(state, "/health") if state.stage.startswith("RUNNING") else None
    facts = {
        "stage": state.stage,
        "pinned": _pinned(hub, space) or "no model",
        "answers with": str((health or {}).get("revision", "nothing"))[:12],
    }
    rows = [
        {"id": d.id, "state": d.state, "pin": str(d.pin)}
        for d in Ledger().of(hub.endpoint, space)[:8]
    ]
    columns = {"id": "deployment", "state": "state", "pin": "model"}
    return drawing.figures(facts) + drawing.table(rows, columns, "Nothing was deployed yet.")
