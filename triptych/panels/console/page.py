"""The page itself: sign in, look at the service, switch providers, read the requests."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from triptych.errors import TierError
from triptych.panels.console import drawing
from triptych.panels.console.client import GatewayClient

PROVIDERS = ["auto", "hf_spaces", "local", "openai"]
SWITCHES = {
    "provider.hf_spaces": "Spaces",
    "provider.local": "Models on this machine",
    "provider.openai": "OpenAI-compatible",
    "tier.base": "Base tier",
    "tier.company": "Company tier",
    "tier.abstraction": "Abstraction tier",
    "fallback": "Fall back when one fails",
}
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def build_page(address: str, navigation: str = "") -> gr.Blocks:
    """Draw the Console for the gateway at an address."""
    with gr.Blocks(title="Triptych Console", analytics_enabled=False) as page:
        if navigation:
            gr.HTML(navigation)
        gr.Markdown(f"# Console\nThe tiered service at `{address}/v1`.")
        client = gr.State(None)
        with gr.Row() as door:
            key = gr.Textbox(
                label="Admin key", type="password", scale=4,
                info="the first one lies in TRIPTYCH_HOME/gateway/admin-key",
            )  # fmt: skip
            enter = gr.Button("Sign in", variant="primary", scale=1)
        trouble = gr.HTML()
        with gr.Tabs(visible=False) as rooms:
            with gr.Tab("Overview"):
                overview = gr.HTML()
            with gr.Tab("Providers and tiers"):
                steer = _steer(client)
            with gr.Tab("Requests"):
                listing = _requests(client)
        timer = gr.Timer(2.0, active=False)

        async def sign_in(typed: str) -> tuple[Any, ...]:
            candidate = GatewayClient(address, typed)
            try:
                who = await candidate.me()
            except TierError as error:
                return None, gr.skip(), gr.skip(), gr.skip(), _complaint(error)
            if who.get("role") not in ("admin", "company_admin"):
                refused = TierError("this key is not an admin's", code="forbidden")
                return None, gr.skip(), gr.skip(), gr.skip(), _complaint(refused)
            shown = gr.update(visible=True)
            return candidate, gr.update(visible=False), shown, gr.update(active=True), ""

        outputs = [client, door, rooms, timer, trouble]
        signed = gr.on([enter.click, key.submit], sign_in, key, outputs, **QUIET)
        signed.then(lambda: "", None, key, **QUIET)
        signed.then(_overview, client, overview, **QUIET)
        signed.then(steer["load"], client, steer["shown"], **QUIET)
        signed.then(listing["load"], listing["asked"], listing["shown"], **QUIET)
        timer.tick(_overview, client, overview, **QUIET)
    return page


async def _overview(client: GatewayClient | None) -> str:
    if client is None:
        return ""
    try:
        totals = await client.ask("GET", "/api/usage")
        buckets = await client.ask("GET", "/api/usage", bucket_s=60)
    except TierError as error:
        return _complaint(error)
    return drawing.overview(totals["rows"], buckets["rows"])


def _steer(client: gr.State) -> dict[str, Any]:
    """Draw the switches; each change is read again from the gateway, so the page never lies."""
    versions = gr.State({})
    gr.Markdown("A change reaches every worker within a second, is audited and can be reverted.")
    provider = gr.Radio(PROVIDERS, label="Who is asked first", interactive=True)
    with gr.Row():
        switches = [
            gr.Checkbox(label=label, interactive=True, min_width=200) for label in SWITCHES.values()
        ]
    apply = gr.Button("Apply", variant="primary")
    said = gr.HTML()
    shown = [provider, *switches, versions]

    async def load(who: GatewayClient | None) -> list[Any]:
        if who is None:
            return [gr.skip() for _ in shown]
        values, seen = await _flags(who)
        return [values["provider"], *(values[key] for key in SWITCHES), seen]

    async def change(who: GatewayClient | None, seen: dict[str, int], *wanted: Any) -> list[Any]:
        if who is None:
            raise gr.Error("sign in first", duration=5)
        asked = dict(zip(("provider", *SWITCHES), wanted, strict=True))
        try:
            values, _ = await _flags(who)
            changes = {key: value for key, value in asked.items() if values[key] != value}
            for key, value in changes.items():
                await who.set_flag(key, value, seen.get(key))
        except TierError as error:
            # What was chosen stays on the page; only the reason is added.
            return [*(gr.skip() for _ in shown), _complaint(error)]
        words = (
            ", ".join(f"{key} = {value}" for key, value in changes.items()) or "nothing to change"
        )
        return [*await load(who), f'<p role="status">Applied: {escape(words)}</p>']

    apply.click(change, [client, versions, provider, *switches], [*shown, said], **QUIET)
    return {"load": load, "shown": shown}


async def _flags(client: GatewayClient) -> tuple[dict[str, Any], dict[str, int]]:
    answer = await client.ask("GET", "/admin/flags")
    values, versions = {}, {}
    for row in answer["flags"]:
        definition = row["definition"]
        values[row["key"]] = definition["variants"][definition["defaultVariant"]]
        versions[row["key"]] = row["version"]
    return values, versions


def _requests(client: gr.State) -> dict[str, Any]:
    """Draw the newest requests, by tier or outcome."""
    with gr.Row():
        tier = gr.Dropdown(["", "base", "company", "abstraction"], label="Tier", value="")
        outcome = gr.Dropdown(
            ["", "ok", "failed", "refused", "cancelled"], label="Outcome", value=""
        )
        look = gr.Button("Look again")
    rows = gr.HTML()

    async def load(who: GatewayClient | None, tier: str, outcome: str) -> str:
        if who is None:
            return ""
        try:
            answer = await who.ask(
                "GET", "/api/requests", tier_asked=tier, outcome=outcome, limit=50
            )
        except TierError as error:
            return _complaint(error)
        return drawing.requests(answer["requests"])

    asked = [client, tier, outcome]
    gr.on([look.click, tier.change, outcome.change], load, asked, rows, **QUIET)
    return {"load": load, "asked": asked, "shown": rows}


def _complaint(error: TierError) -> str:
    hint = f" {escape(error.hint)}" if error.hint else ""
    return f'<p role="alert"><b>{escape(error.message)}</b>{hint}</p>'
