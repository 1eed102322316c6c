"""The place of the lessons: predict first, then let real runs answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from triptych.config import Config, load_config
from triptych.errors import TriptychError, UsageError
from triptych.lm.runs.lessons import LESSONS, Lesson, check, lesson
from triptych.lm.runs.rights import check_request, corpora_of
from triptych.lm.runs.store import Request, Run, RunStore
from triptych.lm.runs.sweep import runs_of, sweeps
from triptych.panels.studio import corpus, drawing
from triptych.panels.studio.ended import comparison_address, playground_address
from triptych.panels.studio.visitor import Visitor, who

PREFIX = "lesson-"
# The address names the lesson, so that the way back from the Playground leads to it.
SHOW_LESSON = """(name) => {
  const url = new URL(window.location);
  url.searchParams.delete('run'); url.searchParams.set('lesson', name);
  window.history.replaceState({}, '', url);
}"""
OWN_TEXT = "the documentation of Python, which is on every machine"


def draw(
    store: RunStore, config: Config, page: gr.Blocks, tabs: gr.Tabs, playground: str = ""
) -> None:
    """Draw the lessons and connect them."""

    def seen(name: str, request: gr.Request) -> str:
        return shown(store, lesson(name), who(request).user, config, playground)

    gr.Markdown(
        "A lesson is an experiment. Say first what you expect; then real runs show what happens."
    )
    titles = [(f"{one.level}: {one.title}", one.name) for one in LESSONS]
    which = gr.Radio(titles, value=LESSONS[0].name, label="Lesson")
    story = gr.Markdown(_story(LESSONS[0]))
    answer = gr.Radio(
        list(LESSONS[0].answers), type="index", label=LESSONS[0].question, elem_id="prediction"
    )
    text = gr.Dropdown([(OWN_TEXT, "")], value="", label="Text to learn from")
    begin = gr.Button("Start the experiment", variant="primary")
    trouble = gr.HTML()
    outcome = gr.HTML(elem_id="lesson")

    def choose(name: str, request: gr.Request) -> tuple[Any, ...]:
        one = lesson(name)
        asked = gr.update(choices=list(one.answers), label=one.question, value=None)
        return _story(one), asked, "", seen(name, request)

    def start(name: str, guess: int | None, data: str, request: gr.Request) -> tuple[str, str]:
        try:
            start_lesson(store, config, lesson(name), guess, data, who(request))
        except TriptychError as error:
            return f"<p><b>{escape(error.message)}</b> {escape(error.hint)}</p>", gr.skip()
        return "", seen(name, request)

    def list_again(request: gr.Request) -> Any:
        built = corpus.corpora(corpora_of(store, who(request).user))
        return gr.update(choices=[(OWN_TEXT, ""), *built])

    def look(name: str, request: gr.Request) -> str:
        return seen(name, request)

    def arrive(request: gr.Request) -> tuple[Any, Any]:
        wanted = dict(request.query_params).get("lesson") if request else None
        if wanted not in [one.name for one in LESSONS]:
            return gr.skip(), gr.skip()
        return wanted, gr.update(selected="learn")

    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    page.load(arrive, None, [which, tabs], **quiet)
    which.change(choose, which, [story, answer, trouble, outcome], **quiet)
    which.input(None, which, None, js=SHOW_LESSON)
    text.focus(list_again, None, text, **quiet)
    page.load(look, which, outcome, **quiet)
    # Why it was refused stays to be read: the outcome is drawn again every moment.
    started = begin.click(
        start, [which, answer, text], [trouble, outcome], api_visibility="private",
        api_name="lesson",
    )  # fmt: skip
    started.then(None, which, None, js=SHOW_LESSON)
    gr.Timer(2.0).tick(look, which, outcome, **quiet)


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
        raise UsageError("say first what you expect", hint="choose an answer above")
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


def shown(
    store: RunStore, one: Lesson, user: str, config: Config | None = None, playground: str = ""
) -> str:
    """Draw how far the newest experiment of a lesson is, and what it showed."""
    named = [s for s in sweeps(store, user=user) if s.startswith(f"{PREFIX}{one.name}-")]
    if not named:
        count = len(one.runs)
        short_runs = "one short run" if count == 1 else f"{count} short runs"
        return f'<p class="quiet">This experiment is {short_runs}.</p>'
    runs = runs_of(store, named[0], user=user)
    try:
        verdict = check(one, runs)
    except TriptychError as error:
        return f"<p><b>{escape(error.message)}</b> {escape(error.hint)}</p>"
    states = ", ".join(
        f"{escape(run.name)}: {run.state} {run.step} of {run.steps or '?'}" for run in runs
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
