"""The place of the lessons: predict first, then let real runs answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Annotated, Any

import gradio as gr
from fastapi import APIRouter, Depends, Query

from triptych.config import Config, load_config
from triptych.errors import TriptychError, UsageError
from triptych.lm.runs.lessons import LESSONS, Lesson, check, lesson
from triptych.lm.runs.rights import check_request, corpora_of
from triptych.lm.runs.store import Request, Run, RunStore
from triptych.lm.runs.sweep import runs_of, sweeps
from triptych.panels import explain
from triptych.panels.studio import corpus, drawing, follow
from triptych.panels.studio.ended import comparison_address, playground_address
from triptych.panels.studio.pace import Place
from triptych.panels.visitor import Visitor, identify, who

PREFIX = "lesson-"
# Drawings of experiments, of all visitors together.
KEPT = 256
OWN_TEXT = "Python documentation (built in)"


def draw(store: RunStore, config: Config, page: gr.Blocks, tabs: gr.Tabs) -> None:
    """Draw the lessons and connect them; how an experiment goes comes by itself (`follow`)."""
    gr.Markdown(
        "A lesson is an experiment. Say first what you expect; then real runs show what happens."
    )
    titles = [(f"{one.level}: {one.title}", one.name) for one in LESSONS]
    which = gr.Radio(titles, value=LESSONS[0].name, label="Lesson")
    story = gr.Markdown(_story(LESSONS[0]))
    words = gr.HTML(explain.words_of(LESSONS[0].story))
    answer = gr.Radio(
        list(LESSONS[0].answers), type="index", label=LESSONS[0].question, elem_id="prediction"
    )
    text = gr.Dropdown([(OWN_TEXT, "")], value="", label="Text to learn from")
    begin = gr.Button("Start the experiment", variant="primary")
    trouble = gr.HTML()
    gr.HTML(follow.place("lesson", "lessons"), elem_id="lesson", js_on_load=None)

    def choose(name: str) -> tuple[Any, ...]:
        one = lesson(name)
        asked = gr.update(choices=list(one.answers), label=one.question, value=None)
        return _story(one), explain.words_of(one.story), asked, ""

    def start(name: str, guess: int | None, data: str, request: gr.Request) -> str:
        try:
            start_lesson(store, config, lesson(name), guess, data, who(request))
        except TriptychError as error:
            return explain.trouble(error)
        return ""

    def list_again(request: gr.Request) -> Any:
        built = corpus.corpora(corpora_of(store, who(request).user))
        return gr.update(choices=[(OWN_TEXT, ""), *built])

    def arrive(request: gr.Request) -> tuple[Any, Any]:
        wanted = dict(request.query_params).get("lesson") if request else None
        if wanted not in [one.name for one in LESSONS]:
            return gr.skip(), gr.skip()
        return wanted, gr.update(selected="learn")

    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    page.load(arrive, None, [which, tabs], **quiet)
    which.change(choose, which, [story, words, answer, trouble], **quiet)
    which.change(None, which, None, js=follow.FOLLOW_LESSON)
    # The address names the lesson, so that the way back from the Playground leads to it.
    which.input(None, which, None, js=follow.SHOW_LESSON)
    text.focus(list_again, None, text, **quiet)
    page.load(None, which, None, js=follow.FOLLOW_LESSON)
    started = begin.click(
        start, [which, answer, text], trouble, api_visibility="private", api_name="lesson"
    )
    started.then(None, which, None, js=follow.SHOW_LESSON)


def routes(store: RunStore, config: Config, playground: str = "") -> APIRouter:
    """Make the route that a page asks how an experiment goes; drawn again once it goes on."""
    api = APIRouter()
    kept: dict[tuple[str, str], Place] = {}
    one_at_a_time = threading.Lock()

    @api.get("/lessons/{name}/places", include_in_schema=False)
    def show(
        name: str,
        have: Annotated[Sequence[str], Query()] = (),
        user: str = Depends(identify),
    ) -> dict[str, Any]:
        one = lesson(name)
        runs = newest(store, one, user)
        stands = tuple((run.run_id, run.state, run.step, run.newest_checkpoint) for run in runs)
        with one_at_a_time:
            if len(kept) > KEPT:
                kept.clear()
            place = kept.setdefault((user, name), Place())
            place.show(stands, lambda: shown(one, runs, config, playground), 0.0)
            return {"places": follow.fresh({"lesson": place.drawn}, have)}

    return api


def start_lesson(
    store: RunStore,
    config: Config,
    one: Lesson,
    guess: int | None,
    data: str,
    visitor: Visitor,
) -> list[Run]:
    """Queue the runs of a lesson, with the prediction written down beside them.

    Raises: UsageError without a prediction.
    """
    visitor.require_name()
    if guess is None:
        raise UsageError("choose first what you expect", hint="the answers are above the button")
    own = corpora_of(store, visitor.user)
    folder = Path(data) if data else corpus.build(own, config, visitor, dataset=corpus.PYTHON_DOCS)
    sweep = f"{PREFIX}{one.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    configs = {
        name: load_config(None, [*one.settings(name), f"train.data={folder}"]) for name in one.runs
    }
    for resolved in configs.values():
        check_request(store, config.runs, resolved, visitor.user)
    made = []
    for name, resolved in configs.items():
        request = Request.of(resolved, name=name, user=visitor.user, sweep=sweep)
        made.append(store.create(request))
        store.annotate(made[-1].run_id, prediction=guess, tags=["lesson"])
    return made


def newest(store: RunStore, one: Lesson, user: str) -> list[Run]:
    """Return the runs of the newest experiment of a lesson."""
    named = [s for s in sweeps(store, user=user) if s.startswith(f"{PREFIX}{one.name}-")]
    return list(runs_of(store, named[0], user=user)) if named else []


def shown(
    one: Lesson, runs: Sequence[Run], config: Config | None = None, playground: str = ""
) -> str:
    """Draw how far an experiment is, and what it showed."""
    if not runs:
        count = len(one.runs)
        short_runs = "one short run" if count == 1 else f"{count} short runs"
        return f'<p class="quiet">This experiment is {short_runs}.</p>'
    try:
        verdict = check(one, runs)
    except TriptychError as error:
        return explain.trouble(error)
    states = ", ".join(
        f"{escape(run.name)}: {run.state} {run.step} of {run.steps or 'an unknown number of'} steps"
        for run in runs
    )
    charts = drawing.overlay(runs, "val/loss" if len(runs) > 1 else "train/loss")
    if verdict is None:
        return f'<p class="quiet">{states}</p>{charts}'
    right, figures = verdict
    guess = int(runs[0].notes.get("prediction", -1))
    said = "You predicted it" if guess == right else f"You said “{one.answers[guess]}”"
    return (
        f"<h3>{escape(one.answers[right])}</h3><p>{escape(said)}. {escape(figures)}</p>"
        f"<p>{escape(one.afterwards)}</p>{_onwards(runs, config, playground)}{charts}"
    )


def _onwards(runs: Sequence[Run], config: Config | None, playground: str) -> str:
    """Lead to what the runs write: one run's ends, or where each of several arrived."""
    steps = {
        run.run_id: sorted(p.name for p in run.path.glob("checkpoints/step-*")) for run in runs
    }
    made = [f"{run_id}/{names[-1]}" for run_id, names in steps.items() if names]
    if not (playground and config and made):
        return ""
    if len(runs) == 1:
        run_id, names = next(iter(steps.items()))
        address = playground_address(playground, config, run_id, names)
    else:
        address = comparison_address(playground, config, made[:4])
    return f'<p><a href="{escape(address)}">Read what they write, in the Playground</a></p>'


def _story(one: Lesson) -> str:
    changes = "\n".join(
        f"- **{name}**: `{' '.join(settings)}`" for name, settings in one.runs.items()
    )
    return f"{one.story}\n\n{changes}"
