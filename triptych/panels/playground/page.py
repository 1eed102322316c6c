"""The page itself: choose models, write a prompt, compare what they write, vote.

Everything that made a comparison is in the address, so that it can be sent to somebody.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import gradio as gr

from triptych.errors import TriptychError
from triptych.panels import look
from triptych.panels.playground import ballot as votes
from triptych.panels.playground import drawing, permalink, rooms
from triptych.panels.playground.arena import Contest, Entry
from triptych.panels.playground.controls import (
    MOST_MODELS,
    QUIET,
    Asked,
    Controls,
    read,
    refusal,
    sampling_controls,
)
from triptych.panels.playground.gateway import tier_of
from triptych.panels.playground.lessons import Lessons, Show, draw_buttons, wire_lessons
from triptych.panels.playground.offers import spread
from triptych.panels.playground.stage import Stage, Visit
from triptych.panels.playground.visitor import Visitor, visitor_of

SHOW_STATE = look.in_address("c")
FIRST_AGES = 3
WHERE = "() => window.location.origin + window.location.pathname"


class Sheet:
    """The components that more than one part of the page speaks to."""

    def __init__(self) -> None:
        self.visit = gr.State(Visit())
        self.link = gr.Textbox(visible="hidden", label="state of the page")
        self.here = gr.Textbox(visible="hidden", label="address of the page")
        self.look_for = gr.HTML(elem_classes="maybe")
        self.notice = gr.HTML(elem_classes="maybe")
        self.answers = gr.HTML(elem_classes="maybe", elem_id="answers")
        self.seen = gr.HTML(elem_classes="maybe")

    @property
    def outputs(self) -> list[Any]:
        """List what a comparison fills."""
        return [self.notice, self.answers, self.link, self.visit]


def build_page(stage: Stage, navigation: str = "") -> gr.Blocks:
    """Draw the Playground over what is on stage."""
    with gr.Blocks(title="Triptych Playground", analytics_enabled=False) as page:
        if navigation:
            gr.HTML(navigation)
        gr.Markdown("# Playground\nOne prompt, several models, side by side.")
        controls, write, stop = _draw_controls(stage)
        buttons = draw_buttons()
        sheet = Sheet()
        lessons = Lessons(buttons, gr.State(""), sheet.look_for, sheet.seen)
        ballot = votes.draw_ballot()
        show = _shower(stage, sheet, ballot)
        with gr.Tabs():
            with gr.Tab("Every token"):
                rooms.tokens_room(stage, controls, sheet.visit)
            with gr.Tab("How they learned") as learned:
                rooms.journey_room(stage, controls, learned)
            with gr.Tab("Votes") as counted:
                recount = rooms.votes_room(stage, sheet.visit, counted)
            with gr.Tab("This visit") as past:
                chosen = rooms.picking()
            with gr.Tab("As code") as code:
                rooms.code_room(stage, controls, code, sheet.here)
        votes.wire_ballot(ballot, stage, sheet.visit, sheet.answers, after=recount)
        every = [*sheet.outputs, *ballot.outputs]
        running = wire_lessons(lessons, stage, controls, sheet.visit, every, show)
        _wire_history(past, chosen, controls, sheet, ballot)
        wired = _wire_compare(page, stage, controls, sheet, ballot, lessons, show, write)
        _wire_stop(stop, [*running, *wired], sheet, ballot)
    return look.at_home(page)


def _draw_controls(stage: Stage) -> tuple[Controls, gr.Button, gr.Button]:
    from_hub = ", or owner/name@revision" if stage.offers.hub_models != "none" else ""
    models = gr.Dropdown(
        [], multiselect=True, max_choices=MOST_MODELS, allow_custom_value=True, label="Models",
        info=f"up to four{from_hub}; checkpoints of one run show how it learned",
    )  # fmt: skip
    found = rooms.draw_search(stage)
    prompt = gr.Textbox(
        label="Prompt", lines=3, max_lines=12, value="The ", autofocus=True,
        info="the models go on from here; Shift+Enter writes",
    )  # fmt: skip
    with gr.Row(elem_classes="acts"):
        write = gr.Button("Write", variant="primary", scale=1, min_width=120)
        stop = gr.Button("Stop", scale=1, min_width=90)
        blind = gr.Checkbox(label="Blind: names hidden until you vote", scale=2, min_width=180)
        chat = gr.Checkbox(label="As a chat message", scale=1, min_width=160)
    with gr.Accordion("Sampling", open=False):
        with gr.Row():
            sampling, dice = sampling_controls(stage.config.generate)
        ends = gr.Textbox(
            label="Stop at", lines=1, max_lines=4, info="writing ends before any of these lines"
        )
    dice.click(lambda: random.randrange(1, 10_000), None, sampling[-1], queue=False, **QUIET)
    if found is not None:
        rooms.wire_search(found, stage, models)
    return Controls(models, prompt, sampling, ends, chat, blind), write, stop


def _entries(stage: Stage, asked: Asked) -> list[Entry]:
    entries = [
        Entry(
            reference=reference,
            label=stage.label(reference),
            prompt=asked.prompt,
            sampling=asked.sampling,
            chat=asked.chat,
        )
        for reference in asked.references
    ]
    if asked.blind:
        random.SystemRandom().shuffle(entries)
    return entries


def _shower(stage: Stage, sheet: Sheet, ballot: votes.Ballot) -> Show:
    """Make the one function that shows entries while they are answered."""

    async def show(
        entries: Sequence[Entry], visitor: Visitor, values: Sequence[Any], kept: Visit
    ) -> AsyncGenerator[dict[Any, Any], None]:
        blind = bool(values[11]) and len(entries) > 1
        link = permalink.write(values)
        words = "" if link else "The prompt is too long for an address; this cannot be sent."
        yield {sheet.notice: drawing.notice(words), sheet.link: link, **ballot.hide()}
        async with aclosing(stage.arena.hold(entries, visitor, blind=blind)) as contests:
            async for contest in contests:
                if kept.current is not contest:
                    kept.add(contest)
                yield {sheet.answers: drawing.answers(contest)}
        # Whoever calls the page as an API is given what came last.
        yield {
            sheet.visit: kept, sheet.answers: drawing.answers(contest), **ballot.offer(contest)
        }  # fmt: skip

    return show


def _wire_compare(
    page: gr.Blocks,
    stage: Stage,
    controls: Controls,
    sheet: Sheet,
    ballot: votes.Ballot,
    lessons: Lessons,
    show: Show,
    write: gr.Button,
) -> list[Any]:
    async def compare(
        request: gr.Request, kept: Visit, *values: Any
    ) -> AsyncGenerator[dict[Any, Any], None]:
        try:
            asked = read(values, stage.config)
        except TriptychError as error:
            raise refusal(error) from error
        yield lessons.clear()
        entries = _entries(stage, asked)
        async with aclosing(show(entries, visitor_of(request), values, kept)) as updates:
            async for update in updates:
                yield update

    outputs = [*sheet.outputs, *ballot.outputs, lessons.running, lessons.look_for, lessons.seen]
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
        listed = [
            (choice.label, choice.reference) for choice in await stage.choices(visitor_of(request))
        ]
        values = permalink.read(dict(request.query_params).get("c") if request else None)
        if values is None:
            known = [reference for _, reference in listed]
            models = gr.update(choices=listed, value=default_models(known))
            return [False, "", models, *(gr.skip() for _ in controls.all[1:])]
        kept, missing = _known(stage, values[0])
        listed += [(stage.label(r), r) for r in kept if r not in {known for _, known in listed}]
        words = drawing.notice(f"Not here: {', '.join(missing)}.") if missing else ""
        # What a link asks of the gateway would be asked, and paid, in the visitor's name.
        at_once = bool(kept) and all(tier_of(reference) is None for reference in kept)
        return [at_once, words, gr.update(choices=listed, value=kept), *values[1:]]

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


def _wire_stop(stop: gr.Button, events: list[Any], sheet: Sheet, ballot: votes.Ballot) -> None:
    """End what is being written; what is there by then stays and can be voted on."""

    def show_stopped(kept: Visit) -> dict[Any, Any]:
        contest = kept.current
        if contest is None:
            return {sheet.notice: ""}
        contest.stop()
        return {
            sheet.visit: kept,
            sheet.answers: drawing.answers(contest, kept.verdicts.get(contest.contest_id)),
            **ballot.offer(contest),
        }

    outputs = [*sheet.outputs, *ballot.outputs]
    stop.click(show_stopped, sheet.visit, outputs, cancels=events, **QUIET)


def _known(stage: Stage, references: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part what a link names into what can be opened here and what cannot."""
    kept = [reference for reference in references if stage.may_open(reference)][:MOST_MODELS]
    return kept, [reference for reference in references if not stage.may_open(reference)]


def _wire_history(
    tab: gr.Tab, chosen: gr.HTML, controls: Controls, sheet: Sheet, ballot: votes.Ballot
) -> None:
    def draw(kept: Visit) -> str:
        return drawing.history(kept.contests, kept.verdicts)

    def reopen(kept: Visit, event: gr.EventData) -> dict[Any, Any]:
        contest = kept.find(rooms.picked(event))
        if contest is None:
            return {sheet.notice: drawing.notice("That comparison is not kept any more.")}
        kept.shown = contest.contest_id
        values = _values(contest)
        restored = dict(zip(controls.all, values, strict=True))
        del restored[controls.blind]
        return {
            sheet.visit: kept,
            sheet.notice: "",
            sheet.answers: drawing.answers(contest, kept.verdicts.get(contest.contest_id)),
            sheet.link: permalink.write(values),
            **restored,
            **ballot.offer(contest),
        }

    outputs = [*sheet.outputs, *controls.all, *ballot.outputs]
    gr.on([tab.select, sheet.visit.change], draw, sheet.visit, chosen, queue=False, **QUIET)
    chosen.click(reopen, sheet.visit, outputs, **QUIET)


def _values(contest: Contest) -> list[Any]:
    """Give the controls' values that made a comparison; an experiment's are its first column's."""
    entry = contest.columns[0].entry
    sampling = entry.sampling
    references = [column.entry.reference for column in contest.columns]
    if contest.hidden:
        references.sort()  # the order would tell which is which
    return [
        list(dict.fromkeys(references)), entry.prompt, sampling.temperature, sampling.top_k,
        sampling.top_p, sampling.min_p, sampling.repetition_penalty, sampling.max_new_tokens,
        sampling.seed or 0, "\n".join(sampling.stop), entry.chat, contest.blind,
    ]  # fmt: skip


def default_models(known: Sequence[str]) -> list[str]:
    """Choose what a first visitor sees: three ages of the newest run, or two models."""
    here = [reference for reference in known if tier_of(reference) is None] or list(known)
    if not here:
        return []
    newest = [r for r in here if r.partition("/")[0] == here[0].partition("/")[0]]
    ages = [reference for _, reference in spread(list(enumerate(newest)), FIRST_AGES)]
    return ages if len(ages) > 1 else here[:2]
