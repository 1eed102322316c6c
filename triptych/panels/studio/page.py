"""The page itself: choose text, choose a size, start; then watch, compare, learn.

The address carries the run (`?run=ID`), so a bookmark or a second device shows the same run.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr

from triptych.config import Config
from triptych.errors import TriptychError, UsageError
from triptych.formatting import format_bytes, format_count, format_duration
from triptych.lm.runs.advice import warnings
from triptych.lm.runs.rights import check_request, corpora_of
from triptych.lm.runs.store import RunStore
from triptych.lm.runs.sweep import start_sweep
from triptych.panels import explain, theme
from triptych.panels.studio import compare, corpus, follow, form, learn, watch
from triptych.panels.studio.form import Form
from triptych.panels.studio.start import configure, estimate, start_run, starts
from triptych.panels.visitor import SIGN_IN, is_shared, who

# How often uploads are looked through, and how long each is kept; a corpus has a copy.
UPLOADS_KEPT_S = (3600, 86400)


def build_page(store: RunStore, config: Config, navigation: str = "") -> gr.Blocks:
    """Draw the Studio for a store of runs."""
    with gr.Blocks(
        title="Triptych Studio", analytics_enabled=False, delete_cache=UPLOADS_KEPT_S
    ) as page:
        if navigation:
            gr.HTML(navigation)
        gr.Markdown("# Studio\nTrain a model and watch it learn. A run goes on without this page.")
        if is_shared():
            page.load(_greet, None, gr.HTML(), queue=False, api_visibility="private")
        with gr.Tabs(overflow_behavior="wrap") as tabs:
            with gr.Tab("New run", id="new"):
                filled, parts = _new_run()
            with gr.Tab("Watch", id="watch"):
                watched = watch.draw(store)
            with gr.Tab("Compare", id="compare"):
                sweep = compare.draw(store, page)
            with gr.Tab("Learn", id="learn"):
                learn.draw(store, config, page, tabs)
        _connect_form(page, store, config, filled, parts, [watched.chosen, tabs, sweep])
        watch.keep_watching(page, store, config, watched, tabs)
    return theme.at_home(page)


def _new_run() -> tuple[Form, dict[str, Any]]:
    """Draw the form of a new run."""
    filled, parts = Form(), {}
    with gr.Row():
        with gr.Column(min_width=300):
            form.draw_text(filled)
            parts["check"] = gr.Button("Check text")
            parts["corpus"] = gr.HTML()
        with gr.Column(min_width=300):
            form.draw_how(filled)
    form.draw_advanced(filled)
    with gr.Accordion("Sweep (several runs)", open=False):
        parts["vary"] = gr.Textbox(
            label="What to vary, one setting per line",
            placeholder="train.seed=1,2,3\ntrain.learning_rate=0.01,0.03",
            info="every combination becomes a run; several seeds show what is luck",
            lines=3,
        )
    parts["advice"] = gr.HTML(elem_id="advice")
    # Above its button: below the last one it would be outside the window.
    parts["trouble"] = gr.HTML("")
    with gr.Row():
        parts["estimate"] = gr.Button("Estimate time, memory and disk")
        parts["begin"] = gr.Button("Start training", variant="primary")
    return filled, parts


def _connect_form(
    page: gr.Blocks,
    store: RunStore,
    config: Config,
    filled: Form,
    parts: dict[str, Any],
    places: list[Any],
) -> None:
    fields, trouble = filled.components, parts["trouble"]
    chosen = places[0]

    def launch(request: gr.Request, *values: Any) -> Iterator[tuple[Any, ...]]:
        stay = [gr.skip()] * 3
        yield *stay, '<p class="status" role="status">Reading the text…</p>'
        choice, visitor = filled.read(values[:-1]), who(request)
        vary = [line.strip() for line in str(values[-1] or "").splitlines() if line.strip()]
        try:
            if vary:
                resolved = configure(store, config, choice, visitor)
                if resolved.train.init_from and not visitor.is_local:
                    raise UsageError("a sweep starts from scratch", hint="choose no checkpoint")
                made = start_sweep(
                    store, resolved, vary, name=choice.name, user=visitor.user,
                    check=lambda one: check_request(store, config.runs, one, visitor.user),
                )  # fmt: skip
                named = made[0].request["sweep"]
                chosen_sweep = gr.update(choices=[named], value=named)
                yield gr.skip(), gr.update(selected="compare"), chosen_sweep, ""
                return
            run = start_run(store, config, choice, visitor)
        except TriptychError as error:
            yield *stay, explain.trouble(error)
            return
        listed = gr.update(choices=watch.choices_of(store, request), value=run.run_id)
        yield listed, gr.update(selected="watch"), gr.skip(), ""

    started = parts["begin"].click(
        launch, [*fields, parts["vary"]], [*places, trouble], api_name="start",
        show_progress="hidden",
    )  # fmt: skip
    started.then(None, chosen, None, js=follow.SHOW_RUN)
    _connect_checks(store, config, filled, parts)
    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}

    def advise(*values: Any) -> str:
        return _warned(filled, values)

    watched = [*filled.nine.values(), *filled.advanced.values(), filled.plain["other"]]
    gr.on([component.change for component in watched], advise, fields, parts["advice"], **quiet)

    _keep_offering(page, store, filled, quiet)


def _connect_checks(store: RunStore, config: Config, filled: Form, parts: dict[str, Any]) -> None:
    fields, trouble = filled.components, parts["trouble"]

    def check_text(request: gr.Request, *values: Any) -> tuple[str, str]:
        try:
            resolved = configure(store, config, filled.read(values), who(request))
        except TriptychError as error:
            return gr.skip(), explain.trouble(error)
        assert resolved.train.data is not None
        return corpus.describe(resolved.train.data), ""

    def measure(request: gr.Request, *values: Any) -> tuple[str, str]:
        try:
            return _estimated(estimate(store, config, filled.read(values), who(request))), ""
        except TriptychError as error:
            return gr.skip(), explain.trouble(error)

    outputs = [parts["corpus"], trouble]
    parts["check"].click(
        check_text, fields, outputs, api_name="check_text", show_progress="minimal"
    )
    parts["estimate"].click(measure, fields, [parts["advice"], trouble], api_name="estimate")


def _keep_offering(page: gr.Blocks, store: RunStore, filled: Form, quiet: dict[str, Any]) -> None:
    """Offer the corpora and checkpoints that are there whenever the list is opened."""

    def offer(request: gr.Request) -> tuple[Any, Any]:
        user = who(request).user
        built = corpus.corpora(corpora_of(store, user))
        return gr.update(choices=[("none", ""), *built]), gr.update(choices=starts(store, user))

    offered = [filled.plain["corpus"], filled.plain["start"]]
    page.load(offer, None, offered, **quiet)
    for component in offered:
        component.focus(offer, None, offered, **quiet)


def _warned(filled: Form, values: Any) -> str:
    """Draw what is known to go wrong with the settings as they stand."""
    from triptych.config import load_config

    try:
        said = warnings(load_config(None, filled.read(values).settings))
    except TriptychError as error:
        said = [error.message]
    return _advice(said)


def _advice(said: list[str]) -> str:
    rows = "".join(f"<li>{escape(one)}</li>" for one in said)
    return f'<ul class="advice">{rows}</ul>' if rows else ""


def _estimated(found: dict[str, Any]) -> str:
    figures = {
        "time": format_duration(found["seconds"]),
        "memory": format_bytes(found["memory_bytes"]),
        "disk": format_bytes(found["disk_bytes"]),
        "steps": f"{found['steps']:,}",
        "tokens": format_count(found["tokens"]),
        "passes over the text": f"{found['epochs']:.2g}",
        "parameters": format_count(found["parameters"]),
    }
    cells = "".join(
        f"<div><b>{text}</b><span>{name}</span></div>" for name, text in figures.items()
    )
    return f'<div class="figures" id="estimate">{cells}</div>{_advice(found["warnings"])}'


def _greet(request: gr.Request) -> str:
    user = who(request).user
    if user:
        name = escape(user.removeprefix("hub/"))
        return f'<p>Signed in as <b>{name}</b>. <a href="/logout">Sign out</a></p>'
    return (
        f'<p><a href="{SIGN_IN}">Sign in</a> to train: a run belongs to the user who starts it, '
        f"and is "
        "published with their own token.</p>"
    )
