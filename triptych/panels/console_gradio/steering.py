"""The tab of providers and tiers: who is asked, for whom, what a change does, and taking it back.

A change is made against the version that was on the page, so that two admins meet in a conflict
and never in a lost update.
"""

from __future__ import annotations

from html import escape
from itertools import permutations
from typing import Any

import gradio as gr

from triptych.errors import TierError
from triptych.panels.console_gradio import drawing
from triptych.panels.console_gradio.effects import effects, named
from triptych.panels.console_gradio.tab import (
    QUIET,
    ConsoleTab,
    act_on,
    acts,
    ask_once,
    complaint,
    signed_in,
)
from triptych.panels.gateway_client import GatewayClient, segment

PROVIDERS = ["auto", "hf_spaces", "local", "openai"]
ORDERS = ["configured", *(">".join(names) for names in permutations(PROVIDERS[1:]))]
SWITCHES = {
    "provider.hf_spaces": "Spaces",
    "provider.local": "Models on this machine",
    "provider.openai": "OpenAI-compatible",
    "tier.base": "Base tier",
    "tier.company": "Company tier",
    "tier.abstraction": "Abstraction tier",
    "fallback": "Fall back when one fails",
    "log.content": "Keep content where consent was given",
    "cache": "Cache answers",
}
TURNS = {"on": True, "off": False, "as for everybody": None}


def draw(client: gr.State) -> ConsoleTab:
    """Draw this tab; after every change it is read again, so that the page never lies."""
    seen = gr.State({})
    order = gr.HTML()
    with gr.Row():
        provider = gr.Radio(PROVIDERS, label="First provider", scale=2, interactive=True)
        fallback = gr.Dropdown(ORDERS, label="Fallback order",
                               allow_custom_value=True, interactive=True)  # fmt: skip
    switches = []
    for labels in (
        list(SWITCHES.values())[start : start + 3] for start in range(0, len(SWITCHES), 3)
    ):
        with gr.Row(elem_classes="switches"):
            switches += [gr.Checkbox(label=label, interactive=True) for label in labels]
    said = gr.HTML()
    inputs = [client, seen, provider, fallback, *switches]
    apply, again = acts("Apply", "Refresh")
    applied = ask_once(
        apply, inputs, warn=_foresee, act=_apply, said=said, agree="Apply these changes"
    )
    with gr.Accordion("Gradual rollout and exceptions", open=False):
        rolled, exceptions = _for_some(client, seen, said)
    with gr.Accordion("History", open=True):
        history = gr.HTML()
        entry = gr.Dropdown([], label="A change of flags", interactive=True)
        back = gr.Button("Revert this change", elem_classes="act")
    reverted = act_on(back, [client, entry], _revert, said)
    outputs = [provider, fallback, *switches, seen, order, history, entry, exceptions]

    async def load(who: GatewayClient | None) -> list[Any]:
        if who is None:
            return [gr.skip() for _ in outputs]
        try:
            return await _read(who)
        except TierError as error:
            return [*(gr.skip() for _ in outputs[:-4]), complaint(error), *[gr.skip()] * 3]

    async def after(who: GatewayClient | None, message: str) -> list[Any]:
        # What was chosen stays where the change was refused.
        refused = 'role="alert"' in message
        return [gr.skip() for _ in outputs] if refused else await load(who)

    for event in (applied, reverted, *rolled):
        event.then(after, [client, said], outputs, **QUIET)
    again.click(load, client, outputs, **QUIET)
    return ConsoleTab(load, [client], outputs)


def _for_some(client: gr.State, seen: gr.State, said: gr.HTML) -> tuple[list[Any], gr.HTML]:
    with gr.Row():
        key = gr.Dropdown([(label, k) for k, label in SWITCHES.items()], label="Switch",
                          value="tier.company")  # fmt: skip
        share = gr.Slider(0, 100, value=10, step=1, label="On for this share, in percent")
        by = gr.Radio(["user", "company"], value="company", label="of each")
    (roll,) = acts("Roll out")
    out = ask_once(roll, [client, seen, key, share, by], warn=_foresee_rollout,
                   act=_roll_out, said=said)  # fmt: skip
    with gr.Row():
        scope = gr.Radio(["company", "user"], value="company", label="Exception for a")
        subject = gr.Textbox(label="Its id")
        turn = gr.Radio(list(TURNS), value="on", label="The switch above is")
        only = gr.Button("Set the exception", elem_classes="act")
    done = act_on(only, [client, key, scope, subject, turn], _override, said)
    return [out, done], gr.HTML()


async def _read(who: GatewayClient) -> list[Any]:
    answer = await who.ask("GET", "/admin/flags")
    flags = {row["key"]: row for row in answer["flags"]}
    upstreams = (await who.ask("GET", "/admin/upstreams"))["upstreams"]
    changes = (await who.ask("GET", "/admin/audit", subject="flags*", limit=20))["entries"]
    choices = [
        (f"{entry['sequence']}. {entry['subject']} → {drawing.change(entry['after'])}"[:120],
         entry["sequence"])
        for entry in changes if entry["action"] != "flags.override"
    ]  # fmt: skip
    seen = {
        key: {"value": value_of(row), "version": row["version"],
              "rule": bool(row["definition"].get("targeting"))}
        for key, row in flags.items()
    }  # fmt: skip
    exceptions = [
        {"flag": row["key"], **override} for row in answer["flags"] for override in row["overrides"]
    ]
    columns = {"flag": "flag", "scope": "for a", "subject_id": "named", "variant": "is"}
    chosen = choices[0][1] if choices else None
    return [
        seen["provider"]["value"],
        seen["order"]["value"],
        *(seen[key]["value"] for key in SWITCHES),
        seen,
        _order(upstreams, answer, seen),
        drawing.audit(changes),
        gr.update(choices=choices, value=chosen),
        drawing.table(exceptions, columns, "No exception: everybody gets the same."),
    ]


def value_of(row: dict[str, Any]) -> bool | str:
    """Read what a flag is for everybody without a rule."""
    definition = row["definition"]
    value: bool | str = definition["variants"][definition["defaultVariant"]]
    return value


def _order(upstreams: list[Any], answer: dict[str, Any], seen: dict[str, Any]) -> str:
    steps = " → ".join(
        f"<b>{escape(row['name'])}</b> "
        + escape(f"({row['provider']}, {', '.join(row['models'])})")
        for row in upstreams
    )
    words = [f"<p>Order: {steps or 'no provider yet'}</p>"]
    killed = answer.get("killed") or []
    words.append(
        f'<p role="alert">Killed by the environment, whatever is set here: '
        f"{escape(', '.join(killed))}</p>"
        if killed
        else '<p class="quiet">No kill switch is set (TRIPTYCH_KILL).</p>'
    )
    rules = [SWITCHES.get(key, key) for key, flag in seen.items() if flag["rule"]]
    if rules:
        words.append(f"<p>Rolled out to some only: {escape(', '.join(rules))}</p>")
    if answer.get("stale"):
        words.append('<p role="alert">The gateway cannot read new flags; it keeps the last.</p>')
    return "".join(words)


def _wanted(seen: dict[str, Any], chosen: tuple[Any, ...]) -> dict[str, Any]:
    """Keep what differs from what was on the page; what others changed meanwhile is not ours."""
    asked = dict(zip(("provider", "order", *SWITCHES), chosen, strict=True))
    changed = {key: value for key, value in asked.items() if seen[key]["value"] != value}
    if not changed:
        raise TierError("nothing is different yet", hint="choose something first")
    return changed


async def _foresee(who: GatewayClient | None, seen: dict[str, Any], *chosen: Any) -> str:
    changes = _wanted(seen, chosen)
    body = {"changes": {key: {"value": value} for key, value in changes.items()}}
    foreseen = await signed_in(who).ask("POST", "/admin/flags/preview", body)
    ending = [SWITCHES[key] for key in changes if seen[key]["rule"]]
    rules = f"<p>No longer for some only: {escape(', '.join(ending))}.</p>" if ending else ""
    return effects(named(changes), foreseen) + rules


async def _apply(who: GatewayClient | None, seen: dict[str, Any], *chosen: Any) -> str:
    who = signed_in(who)
    done: list[str] = []
    for key, value in _wanted(seen, chosen).items():
        try:
            await who.set_flag(key, value, seen[key]["version"])
        except TierError as error:
            before = f" ({', '.join(done)} is set)" if done else ""
            raise TierError(
                f"{error.message}{before}",
                hint="“Refresh” shows what it is now",
                code=error.code,
            ) from error
        done.append(f"{key} = {value}")
    return f"Applied: {', '.join(done)}"


async def _foresee_rollout(
    who: GatewayClient | None, seen: dict[str, Any], key: str, share: float, by: str
) -> str:
    change = {"percentage": float(share), "by": by}
    foreseen = await signed_in(who).ask("POST", "/admin/flags/preview", {"changes": {key: change}})
    kind = "companies" if by == "company" else "users"
    return (
        f"<p>{escape(SWITCHES[key])} will be on for {share:.0f} % of all {kind}, always the same"
        " ones, and off for the others. Exceptions stay.</p>"
    ) + effects(f"{key} for {share:.0f} %", foreseen)


async def _roll_out(
    who: GatewayClient | None, seen: dict[str, Any], key: str, share: float, by: str
) -> str:
    body = {"percentage": float(share), "by": by, "expected_version": seen[key]["version"]}
    await signed_in(who).ask("PUT", f"/admin/flags/{segment(key)}/rollout", body)
    return f"Rolled out: {key} for {share:.0f} %"


async def _override(
    who: GatewayClient | None, key: str, scope: str, subject: str, turn: str
) -> str:
    if not subject.strip():
        raise TierError(f"which {scope}?", hint="type its id")
    path = f"/admin/flags/{segment(key)}/overrides/{scope}/{segment(subject)}"
    await signed_in(who).ask("PUT", path, {"value": TURNS[turn]})
    return f"Exception: {key} is {turn} for {subject.strip()}"


async def _revert(who: GatewayClient | None, sequence: int | None) -> str:
    if sequence is None:
        raise TierError("which change?", hint="choose one of the list")
    await signed_in(who).ask("POST", f"/admin/flags/revert/{int(sequence)}")
    return f"Reverted: change {sequence}"
