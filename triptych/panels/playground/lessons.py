"""The three experiments on the page: each sets the controls, runs, and says what was seen."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gradio as gr

from triptych.errors import TriptychError, UsageError
from triptych.panels.playground import drawing
from triptych.panels.playground.comparison import Column, Comparison, Entry
from triptych.panels.playground.context import Context, Visit
from triptych.panels.playground.controls import QUIET, Controls, read, refusal
from triptych.panels.playground.experiments import EXPERIMENTS, Experiment, Scores
from triptych.panels.playground.gateway import tier_of
from triptych.panels.playground.models.model_list import checkpoints, spread, step_of
from triptych.panels.playground.visitor import Visitor, visitor_of

#: Shows entries as they are answered; the same for a comparison and an experiment.
Show = Callable[..., AsyncGenerator[dict[Any, Any], None]]


@dataclass(frozen=True)
class Lessons:
    """The experiments' buttons, and where they say what to look for and what was seen."""

    buttons: tuple[gr.Button, ...]
    running: gr.State
    look_for: gr.HTML
    seen: gr.HTML

    def clear(self) -> dict[Any, Any]:
        """Take an experiment's words away when something else is compared."""
        return {self.running: "", self.look_for: "", self.seen: ""}


def draw_buttons() -> tuple[gr.Button, ...]:
    """Draw a button for each experiment."""
    with gr.Accordion("First steps: three experiments", open=False), gr.Row():
        return tuple(gr.Button(experiment.title, min_width=140) for experiment in EXPERIMENTS)


def wire_lessons(
    lessons: Lessons,
    context: Context,
    controls: Controls,
    visit: gr.State,
    outputs: list[Any],
    show: Show,
) -> list[Any]:
    """Let each button set the controls, then run its experiment; give the running events."""
    events = []
    for button, experiment in zip(lessons.buttons, EXPERIMENTS, strict=True):
        prepared = button.click(
            partial(_prepare, context, experiment),
            [lessons.running, *controls.all],
            [lessons.running, lessons.look_for, lessons.seen, *controls.all],
            **QUIET,
        )
        events.append(
            prepared.success(
                _runner(context, experiment, show, lessons.seen),
                [visit, *controls.all],
                [*outputs, lessons.seen],
                concurrency_limit=None,
                **QUIET,
            )
        )
    return events


def _prepare(context: Context, experiment: Experiment, running: str, *values: Any) -> list[Any]:
    """Set the controls; run a second time, it keeps what was changed on the page meanwhile."""
    head = [experiment.key, drawing.look_for(experiment), ""]
    if running == experiment.key and values[0]:
        return [*head, *(gr.skip() for _ in values)]
    try:
        references = _references(context, experiment, list(values[0] or ()))
    except TriptychError as error:
        raise refusal(error) from error
    sampling = experiment.sampling
    return [
        *head, references, experiment.prompt, sampling.temperature, sampling.top_k,
        sampling.top_p, sampling.min_p, sampling.repetition_penalty, sampling.max_new_tokens,
        sampling.seed, "", "text", False,
    ]  # fmt: skip


def _references(context: Context, experiment: Experiment, chosen: list[str]) -> list[str]:
    """Choose what the experiment is made with: the newest chosen model, or ages of its run."""
    local = [reference for reference in chosen if tier_of(reference) is None]
    if experiment.ages == 1:
        known = local or [choice.reference for choice in context.model_list.choices()]
        if not known:
            raise UsageError("there is no model yet", hint="`triptych train` makes one")
        # The newest checkpoint of the first model's run: an early one shows nothing but noise.
        run_id = known[0].partition("/")[0]
        of_run = [reference for reference in known if reference.partition("/")[0] == run_id]
        return [max(of_run, key=lambda reference: step_of(reference.partition("/")[2]))]
    runs = context.model_list.store.list()
    wanted = {reference.partition("/")[0] for reference in local}
    for run in sorted(runs, key=lambda run: run.run_id not in wanted):
        steps = spread(checkpoints(run.path), experiment.ages)
        if len(steps) > 1:
            return [f"{run.run_id}/{folder}" for _, folder in steps]
    raise UsageError(
        "this needs a run with two checkpoints or more",
        hint="`triptych train` keeps several as it goes",
    )


def _runner(
    context: Context, experiment: Experiment, show: Show, seen: gr.HTML
) -> Callable[..., AsyncGenerator[dict[Any, Any], None]]:
    async def run(
        request: gr.Request, kept: Visit, *values: Any
    ) -> AsyncGenerator[dict[Any, Any], None]:
        try:
            asked = read(values, context.config)
        except TriptychError as error:
            raise refusal(error) from error
        labels = [context.label(reference) for reference in asked.references]
        entries = experiment.entries(asked.references, labels, asked.prompt, asked.sampling)
        entries = [replace(entry, chat=asked.chat) for entry in entries]
        async with aclosing(show(entries, visitor_of(request), values, kept)) as updates:
            async for update in updates:
                yield update
        comparison = kept.current
        assert comparison is not None
        visitor = visitor_of(request)
        scores = await _scores(context, experiment, comparison, visitor)
        groups = [[column] for column in comparison.columns]
        yield {seen: drawing.seen(experiment.seen(groups, scores))}
        async for columns in _other_seeds(context, experiment, entries, visitor):
            if kept.current is not comparison:
                return  # something else is on the page by now
            for group, column in zip(groups, columns, strict=True):
                group.append(column)
            yield {seen: drawing.seen(experiment.seen(groups, scores))}

    return run


async def _other_seeds(
    context: Context, experiment: Experiment, entries: list[Entry], visitor: Visitor
) -> AsyncGenerator[list[Column], None]:
    """Yield the same answers drawn with further seeds, which are measured and not shown."""
    for further in range(1, experiment.seeds):
        again = [
            replace(
                entry, sampling=replace(entry.sampling, seed=(entry.sampling.seed or 0) + further)
            )
            for entry in entries
        ]
        async with aclosing(context.comparer.hold(again, visitor)) as states:
            async for state in states:
                comparison = state
        yield comparison.columns


async def _scores(
    context: Context, experiment: Experiment, comparison: Comparison, visitor: Visitor
) -> Scores:
    """Return the prompt's bits per byte under each model, where the findings ask for them."""
    if not experiment.scores_prompt:
        return [None for _ in comparison.columns]
    bits: list[float | None] = []
    for column in comparison.columns:
        try:
            score = await context.score(column.entry.reference, column.entry.prompt, visitor)
            bits.append(score.bits_per_byte)
        except TriptychError:
            bits.append(None)  # its column says why
    return bits
