"""The Console: the sign-in form, and a tab for each part."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from triptych.errors import TierError
from triptych.lm.runs.store import RunStore
from triptych.panels import theme
from triptych.panels.console_gradio import (
    audit,
    feedback,
    models,
    overview,
    people,
    privacy,
    requests,
    spaces,
    steering,
)
from triptych.panels.console_gradio.tab import QUIET, ConsoleTab, complaint
from triptych.panels.gateway_client import GatewayClient
from triptych.panels.sign_in.identity import SignIn

REFRESH_S = 5.0
ADMINS = ("Providers and tiers", "Spaces", "Audit")
REMEMBER = """key => { if (key) fetch('/sign-in', {method: 'POST', body: JSON.stringify({key}),
  headers: {'content-type': 'application/json'}}).catch(() => {}); }"""
LEAVE = """() => fetch('/sign-out', {method: 'POST'}).finally(() => location.reload())"""


def build_page(
    address: str,
    navigation: str = "",
    hub: str | None = None,
    sign_in: SignIn | None = None,
    runs: RunStore | None = None,
) -> gr.Blocks:
    """Draw the Console for the gateway at an address, and the hub that holds its Spaces.

    With `sign_in`, one sign-in holds for every panel of the address, and across visits. With
    `runs`, their checkpoints are published from here.
    """
    with gr.Blocks(title="Triptych Console", analytics_enabled=False) as page:
        if navigation:
            gr.HTML(navigation)
        gr.Markdown(f"# Console\nAPI address: `{address}/v1`.")
        client = gr.State(None)
        with gr.Row(elem_classes="signed"):
            whose = gr.HTML()
            leave = gr.Button("Sign out", visible=False, size="sm", elem_classes="act")
        entry, key, enter = _sign_in_form(sign_in)
        trouble = gr.HTML()
        tabs, parts, only_admins = _tabs(client, hub, runs)
        timer = gr.Timer(REFRESH_S, active=False)
        outputs = [client, whose, leave, entry, tabs, timer, trouble]

        async def enter_key(typed: str) -> list[Any]:
            candidate = GatewayClient(address, typed)
            try:
                who = await candidate.me()
                if who["role"] not in ("admin", "company_admin"):
                    raise TierError("this key is not an admin's", hint="ask for one that is")
            except TierError as error:
                return [*[gr.skip()] * (len(outputs) - 1), complaint(error)]
            return [
                candidate, _whose(who), gr.update(visible=sign_in is not None),
                gr.update(visible=False), gr.update(visible=True), gr.update(active=True), "",
            ]  # fmt: skip

        async def arrive(request: gr.Request) -> list[Any]:
            session = sign_in.session(request.cookies) if sign_in is not None else None
            return [gr.skip() for _ in outputs] if session is None else await enter_key(session.key)

        signed = gr.on([enter.click, key.submit], enter_key, key, outputs, **QUIET)
        if sign_in is not None:
            signed.success(None, key, None, js=REMEMBER, **QUIET)
            leave.click(None, None, None, js=LEAVE, **QUIET)
            _enter(page.load(arrive, None, outputs, **QUIET), client, parts, only_admins)
        # what was typed stays after a mistake, and goes once it has served
        signed.success(lambda who: "" if who else gr.skip(), client, key, **QUIET)
        _enter(signed, client, parts, only_admins)
        first = parts["Overview"]
        timer.tick(first.load, first.inputs, first.outputs, **QUIET)
    return theme.at_home(page)


def _sign_in_form(sign_in: SignIn | None) -> tuple[gr.Column, gr.Textbox, gr.Button]:
    """Draw where one signs in."""
    with gr.Column() as entry:
        with gr.Row(elem_classes="acts"):
            key = gr.Textbox(
                label="Admin key", type="password", scale=4,
                info="The first key is in the file TRIPTYCH_HOME/gateway/admin-key"
                " (TRIPTYCH_HOME/gateway/admin-key)",
            )  # fmt: skip
            enter = gr.Button("Sign in", variant="primary", scale=1)
        if sign_in is not None and sign_in.client:
            gr.HTML(
                'or <a href="/sign-in/hub?then=/console/">Sign in with your account of the hub</a>'
            )
    return entry, key, enter


def _tabs(
    client: gr.State, hub: str | None, runs: RunStore | None
) -> tuple[gr.Tabs, dict[str, ConsoleTab], list[gr.Tab]]:
    """Draw the tabs. Returns: the tabs, how each is loaded, and those for admins of everything."""
    drawn = {
        "Overview": overview.draw,
        "Providers and tiers": steering.draw,
        "Requests": requests.draw,
        "Feedback": feedback.draw,
        "Companies, users, keys": people.draw,
        "Privacy": privacy.draw,
        "Spaces": lambda who: spaces.draw(who, hub),
        "Models": lambda who: models.draw(who, hub, runs),
        "Audit": audit.draw,
    }
    parts, only_admins = {}, []
    with gr.Tabs(visible=False, overflow_behavior="wrap") as tabs:
        for name, draw in drawn.items():
            with gr.Tab(name, visible=name not in ADMINS) as tab:
                part = parts[name] = draw(client)
            if name != "Providers and tiers":  # what was chosen there outlives a look elsewhere
                tab.select(part.load, part.inputs, part.outputs, **QUIET)
            if name in ADMINS:
                only_admins.append(tab)
    return tabs, parts, only_admins


def _enter(
    signed: Any, client: gr.State, parts: dict[str, ConsoleTab], only_admins: list[gr.Tab]
) -> None:
    """Show the tabs that this user may see, and load those that are not opened by a click."""

    def show_tabs(who: GatewayClient | None) -> list[Any]:
        everything = gr.update(visible=who is not None and who.role == "admin")
        return [everything] * len(only_admins)

    # Only now: a tab that is not drawn yet forgets whether it is visible.
    signed.success(show_tabs, client, only_admins, **QUIET)
    for name in ("Overview", "Providers and tiers"):
        part = parts[name]
        signed.success(part.load, part.inputs, part.outputs, **QUIET)


def _whose(who: dict[str, Any]) -> str:
    name = who["user_id"] or who["key_id"]
    role = str(who["role"]).replace("_", " ")
    of = f" of {', '.join(who['companies'])}" if who["role"] == "company_admin" else ""
    return f'<p class="quiet">Signed in as {escape(f"{name}, {role}{of}")}.</p>'
