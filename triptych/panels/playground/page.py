"""The page itself: choose models, write a prompt, compare what they write, vote.

Everything that made a comparison is in the address, so that a link shares it.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from triptych.errors import TriptychError
from triptych.panels import theme
from triptych.panels.playground import drawing, permalink, tabs
from triptych.panels.playground import voting as votes
from triptych.panels.playground.comparison import Comparison, Entry
from triptych.panels.playground.context import Context, Visit
from triptych.panels.playground.controls import (
    MOST_MODELS,
    QUIET,
    READINGS,
    Asked,
    Controls,
    read,
    refusal,
    sampling_controls,
)
from triptych.panels.playground.gateway import tier_of
from triptych.panels.playground.lessons import Lessons, Show, draw_buttons, wire_lessons
from triptych.panels.playground.models.model_list import spread
from triptych.panels.playground.visitor import Visitor, visitor_of

SHOW_STATE = theme.in_address("c")
FIRST_AGES = 3
TITLE = "<h1>Playground <small>One prompt, several models, side by side.</small></h1>"
# On a phone these stand above the controls; the style says so.
RESULT = ["maybe", "result"]
SHOW_ANSWERS = "() => { if (innerWidth < 640) scrollTo({top: 0}); }"
WHERE = "() => window.location.origin + window.location.pathname"


class Sheet:
    """The components that more than one part of the page speaks to."""

    def __init__(self) -> None:
        self.visit = gr.State(Visit())
        self.link = gr.Textbox(visible="hidden", label="state of the page")
        self.here = gr.Textbox(visible="hidden", label="address of the page")
        self.look_for = gr.HTML(elem_classes=RESULT)
        self.notice = gr.HTML(elem_classes=RESULT)
        self.answers = gr.HTML(elem_classes=RESULT, elem_id="answers")
        self.seen = gr.HTML(elem_classes=RESULT)

    @property
    def outputs(self) -> list[Any]:
        """List what a comparison fills."""
        return [self.notice, self.answers, self.link, self.visit]


def build_page(context: Context, navigation: str = "") -> gr.Blocks:
    """Draw the Playground over what is on context."""
    with gr.Blocks(title="Triptych Playground", analytics_enabled=False) as page:
        if navigation:
            gr.HTML(navigation, elem_classes="top")
        gr.HTML(TITLE, elem_classes="top")
        asking = _draw_prompt(context)
        sheet = Sheet()
        voting = votes.draw_voting()
        controls = _draw_settings(context, asking)
        buttons = draw_buttons()
        lessons = Lessons(buttons, gr.State(""), sheet.look_for, sheet.seen)
        show = _shower(context, sheet, voting)
        with gr.Tabs():
            with gr.Tab("Every token"):
                tabs.tokens_tab(context, controls, sheet.visit)
            with gr.Tab("How they learned") as learned:
                tabs.quality_tab(context, controls, learned)
            with gr.Tab("Votes") as counted:
                recount = tabs.votes_tab(context, sheet.visit, counted)
            with gr.Tab("This visit") as past:
                chosen = tabs.picking()
            with gr.Tab("As code") as code:
                tabs.code_tab(context, controls, code, sheet.here)
        votes.wire_voting(voting, context, sheet.visit, sheet.answers, after=recount)
        every = [*sheet.outputs, *voting.outputs]
        running = wire_lessons(lessons, context, controls, sheet.visit, every, show)
        _wire_history(past, chosen, controls, sheet, voting)
        wired = _wire_compare(page, context, controls, sheet, voting, lessons, show, asking.write)
        asking.write.click(None, js=SHOW_ANSWERS, queue=False, **QUIET)
        _wire_stop(asking.stop, [*running, *wired], sheet, voting)
    return theme.at_home(page)


@dataclass(frozen=True)
class Asking:
    """What stands above the answers: the prompt, the models, and what starts and ends them."""

    models: gr.Dropdown
    prompt: gr.Textbox
    write: gr.Button
    stop: gr.Button
    blind: gr.Checkbox


def _draw_prompt(context: Context) -> Asking:
    from_hub = ", or owner/name@revision" if context.model_list.hub_models != "none" else ""
    with gr.Row(elem_classes="asking"):
        prompt = gr.Textbox(
            label="Prompt", lines=2, max_lines=12, value="The ", autofocus=True, scale=3,
            info="Shift+Enter generates.", min_width=280,
        )  # fmt: skip
        models = gr.Dropdown(
            [], multiselect=True, max_choices=MOST_MODELS, allow_custom_value=True, label="Models",
            info=f"up to four{from_hub}", scale=2, min_width=280,
        )  # fmt: skip
    with gr.Row(elem_classes="acts"):
        write = gr.Button("Generate", variant="primary", scale=1, min_width=120)
        stop = gr.Button("Stop", scale=1, min_width=90)
        blind = gr.Checkbox(label="Blind: names hidden until you vote", scale=2, min_width=180)
    return Asking(models, prompt, write, stop, blind)


def _draw_settings(context: Context, asking: Asking) -> Controls:
    with gr.Accordion("Settings", open=False):
        reading = gr.Radio(
            [("automatic", "auto"), ("a chat message", "chat"), ("a text to continue", "text")],
            value="auto", label="The prompt is",
            info="automatic: a chat message for instruct models and for the gateway's tiers",
        )  # fmt: skip
        with gr.Row():
            sampling, dice = sampling_controls(context.config.generate)
        ends = gr.Textbox(
            label="Stop at", lines=1, max_lines=4, info="writing ends before any of these lines"
        )
    found = tabs.draw_search(context)
    dice.click(lambda: random.randrange(1, 10_000), None, sampling[-1], queue=False, **QUIET)
    if found is not None:
        tabs.wire_search(found, context, asking.models)
    return Controls(asking.models, asking.prompt, sampling, ends, reading, asking.blind)


def _entries(context: Context, asked: Asked) -> list[Entry]:
    entries = [
        Entry(
            reference=reference,
            label=context.label(reference),
            prompt=asked.prompt,
            sampling=asked.sampling,
            chat=asked.chat,
        )
        for reference in asked.references
    ]
    if asked.blind:
        random.SystemRandom().shuffle(entries)
    return entries


def _shower(context: Context, sheet: Sheet, voting: votes.VotingForm) -> Show:
    """Make the one function that shows entries while they are answered."""

    async def show(
        entries: Sequence[Entry], visitor: Visitor, values: Sequence[Any], kept: Visit
    ) -> AsyncGenerator[dict[Any, Any], None]:
        blind = bool(values[11]) and len(entries) > 1
        link = permalink.write(values)
        words = "" if link else "The prompt is too long for an address; this cannot be sent."
        yield {sheet.notice: drawing.notice(words), sheet.link: link, **voting.hide()}
        async with aclosing(context.comparer.hold(entries, visitor, blind=blind)) as comparisons:
            async for comparison in comparisons:
                if kept.current is not comparison:
                    kept.add(comparison)
                yield {sheet.answers: drawing.answers(comparison)}
        # A client that calls the page as an API gets what came last.
        yield {
            sheet.visit: kept,
            sheet.answers: drawing.answers(comparison),
            **voting.offer(comparison),
        }

    return show


def _wire_compare(
    page: gr.Blocks,
    context: Context,
    controls: Controls,
    sheet: Sheet,
    voting: votes.VotingForm,
    lessons: Lessons,
    show: Show,
    write: gr.Button,
) -> list[Any]:
    async def compare(
        request: gr.Request, kept: Visit, *values: Any
    ) -> AsyncGenerator[dict[Any, Any], None]:
        try:
            asked = read(values, context.config)
        except TriptychError as error:
            raise refusal(error) from error
        yield lessons.clear()
        entries = _entries(context, asked)
        async with aclosing(show(entries, visitor_of(request), values, kept)) as updates:
            async for update in updates:
                yield update

    outputs = [*sheet.outputs, *voting.outputs, lessons.running, lessons.look_for, lessons.seen]
    inputs = [sheet.visit, *controls.all]
    asked = gr.on(
        [write.click, controls.prompt.submit],
        compare,
        inputs,
        outputs,
        show_progress="hidden",
        api_name="compare",
        concurrency_limit=None,
    )
    sheet.link.change(None, sheet.link, None, js=SHOW_STATE, queue=False, **QUIET)

    async def arrive(request: gr.Request) -> list[Any]:
        return await _from_address(context, controls, request)

    at_once = gr.State(False)
    page.load(None, None, sheet.here, js=WHERE, queue=False, **QUIET)
    arrived = page.load(arrive, None, [at_once, sheet.notice, *controls.all], **QUIET)

    async def compare_at_once(
        request: gr.Request, wanted: bool, kept: Visit, *values: Any
    ) -> AsyncGenerator[dict[Any, Any], None]:
        if not wanted:
            yield {sheet.visit: gr.skip()}
            return
        async with aclosing(compare(request, kept, *values)) as updates:
            async for update in updates:
                yield update

    restored = arrived.then(
        compare_at_once, [at_once, *inputs], outputs, concurrency_limit=None, **QUIET
    )
    return [asked, restored]


async def _from_address(context: Context, controls: Controls, request: gr.Request) -> list[Any]:
    """Return the values of `at_once`, the notice and the controls that the address asks for."""
    listed = [
        (choice.label, choice.reference) for choice in await context.choices(visitor_of(request))
    ]
    values = permalink.read(dict(request.query_params).get("c") if request else None)
    if values is None:
        known = [reference for _, reference in listed]
        models = gr.update(choices=listed, value=default_models(known))
        return [False, "", models, *(gr.skip() for _ in controls.all[1:])]
    kept, missing = _known(context, values[0])
    listed += [(context.label(r), r) for r in kept if r not in {known for _, known in listed}]
    words = drawing.notice(f"Not here: {', '.join(missing)}.") if missing else ""
    # What a link asks of the gateway would be asked, and paid, in the visitor's name.
    at_once = bool(kept) and all(tier_of(reference) is None for reference in kept)
    return [at_once, words, gr.update(choices=listed, value=kept), *values[1:]]


def _wire_stop(stop: gr.Button, events: list[Any], sheet: Sheet, voting: votes.VotingForm) -> None:
    """End what is being written; what is there by then stays and can be voted on."""

    def show_stopped(kept: Visit) -> dict[Any, Any]:
        comparison = kept.current
        if comparison is None:
            return {sheet.notice: ""}
        comparison.stop()
        return {
            sheet.visit: kept,
            sheet.answers: drawing.answers(comparison, kept.verdicts.get(comparison.comparison_id)),
            **voting.offer(comparison),
        }

    outputs = [*sheet.outputs, *voting.outputs]
    stop.click(show_stopped, sheet.visit, outputs, cancels=events, **QUIET)


def _known(context: Context, references: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part what a link names into what can be opened here and what cannot."""
    kept = [reference for reference in references if context.may_open(reference)][:MOST_MODELS]
    return kept, [reference for reference in references if not context.may_open(reference)]


def _wire_history(
    tab: gr.Tab, chosen: gr.HTML, controls: Controls, sheet: Sheet, voting: votes.VotingForm
) -> None:
    def draw(kept: Visit) -> str:
        return drawing.history(kept.comparisons, kept.verdicts)

    def reopen(kept: Visit, event: gr.EventData) -> dict[Any, Any]:
        comparison = kept.find(tabs.picked(event))
        if comparison is None:
            return {sheet.notice: drawing.notice("That comparison is not kept any more.")}
        kept.shown = comparison.comparison_id
        values = _values(comparison)
        restored = dict(zip(controls.all, values, strict=True))
        del restored[controls.blind]
        return {
            sheet.visit: kept,
            sheet.notice: "",
            sheet.answers: drawing.answers(comparison, kept.verdicts.get(comparison.comparison_id)),
            sheet.link: permalink.write(values),
            **restored,
            **voting.offer(comparison),
        }

    outputs = [*sheet.outputs, *controls.all, *voting.outputs]
    gr.on([tab.select, sheet.visit.change], draw, sheet.visit, chosen, queue=False, **QUIET)
    chosen.click(reopen, sheet.visit, outputs, **QUIET)


def _values(comparison: Comparison) -> list[Any]:
    """Return the controls' values behind a comparison; of an experiment, its first column's."""
    entry = comparison.columns[0].entry
    sampling = entry.sampling
    references = [column.entry.reference for column in comparison.columns]
    if comparison.hidden:
        references.sort()  # the order would tell which is which
    return [
        list(dict.fromkeys(references)), entry.prompt, sampling.temperature, sampling.top_k,
        sampling.top_p, sampling.min_p, sampling.repetition_penalty, sampling.max_new_tokens,
        sampling.seed or 0, "\n".join(sampling.stop), _reading(comparison), comparison.blind,
    ]  # fmt: skip


def _reading(comparison: Comparison) -> str:
    """Return how the prompts were read: automatic where not all were read alike."""
    found = {column.entry.chat for column in comparison.columns}
    return next(name for name, chat in READINGS.items() if len(found) > 1 or {chat} == found)


def default_models(known: Sequence[str]) -> list[str]:
    """Choose what a first visitor sees: three ages of the newest run, or two models."""
    here = [reference for reference in known if tier_of(reference) is None] or list(known)
    if not here:
        return []
    newest = [r for r in here if r.partition("/")[0] == here[0].partition("/")[0]]
    ages = [reference for _, reference in spread(list(enumerate(newest)), FIRST_AGES)]
    return ages if len(ages) > 1 else here[:2]
