"""The place where one run is watched and steered; what it shows comes by itself (`follow`)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import gradio as gr

from triptych.config import Config
from triptych.errors import TriptychError
from triptych.lm.runs import control
from triptych.lm.runs.states import ALLOWED, DesiredState
from triptych.lm.runs.store import Run, RunStore
from triptych.panels.studio import drawing, ended, follow
from triptych.panels.studio.ended import own
from triptych.panels.visitor import who

# The desired states of the three buttons, in their order.
DESIRED_STATES: tuple[DesiredState, ...] = ("pause", "run", "cancel")


@dataclass
class Watch:
    """The components of the place."""

    chosen: gr.Dropdown
    buttons: tuple[gr.Button, ...]
    steer: gr.HTML


def draw(store: RunStore) -> Watch:
    """Draw the place where one run is watched."""
    with gr.Row(elem_classes="acts"):
        # A web process that was started anew does not know what an older one offered.
        chosen = gr.Dropdown(
            [], value=None, label="Run", scale=4, min_width=240, allow_custom_value=True
        )
        # What a run's state does not allow cannot be pressed.
        off: dict[str, Any] = {"scale": 1, "min_width": 120, "interactive": False}
        pause = gr.Button("Pause", **off)
        resume = gr.Button("Resume", **off)
        cancel = gr.Button("Cancel run", variant="stop", **off)
    steer = gr.HTML(
        f'<div id="steer"><div id="no-run">{drawing.EMPTY}</div>{follow.place("head")}</div>',
        js_on_load=follow.STEERED,
    )
    with gr.Row():
        with gr.Column(min_width=300):
            _place("loss")
        with gr.Column(min_width=300):
            _place("bpb")
    _place("links")
    _place("samples")
    ended.draw(store, chosen)
    with gr.Accordion("More curves", open=False):
        _place("more")
    with gr.Accordion("Log", open=False):
        _place("log")
    return Watch(chosen, (pause, resume, cancel), steer)


def _place(name: str) -> None:
    gr.HTML(follow.place(name), min_height=0, js_on_load=None)


def keep_watching(
    page: gr.Blocks, store: RunStore, config: Config, watch: Watch, tabs: gr.Tabs
) -> None:
    """Show the chosen run's true state, now and as long as the page is open."""
    chosen = watch.chosen

    def allow(run_id: str | None, request: gr.Request) -> list[Any]:
        run = own(store, run_id, request)
        may = [run is not None and run.state in ALLOWED[state] for state in DESIRED_STATES]
        return [gr.update(interactive=one) for one in may]

    def arrive(request: gr.Request) -> tuple[Any, ...]:
        wanted = dict(request.query_params).get("run") if request else None
        choices = choices_of(store, request)
        known = wanted if wanted in [value for _, value in choices] else None
        tab = gr.update(selected="watch") if known else gr.skip()
        # A fast user has chosen a run by now: what the address does not name stays.
        value = {"value": known} if known else {}
        return gr.update(choices=choices, **value), tab

    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    buttons = list(watch.buttons)
    page.load(arrive, None, [chosen, tabs], **quiet)
    page.load(None, None, None, js=follow.script(config))
    chosen.change(None, chosen, None, js=follow.SHOW_RUN)
    watch.steer.submit(allow, chosen, buttons, trigger_mode="always_last", **quiet)
    _refresh_choices(store, chosen, quiet)
    acts = (control.pause, control.resume, control.cancel)
    for button, act in zip(watch.buttons, acts, strict=True):

        def press(run_id: str | None, request: gr.Request, act: Any = act) -> None:
            run = own(store, run_id, request)
            if run is None:
                raise gr.Error("choose a run first", duration=4)
            try:
                act(store, run.run_id, by=run.user)
            except TriptychError as error:
                raise gr.Error(f"{error.message}. {error.hint}", duration=8) from error

        pressed = button.click(press, chosen, None, show_progress="hidden", api_name=act.__name__)
        pressed.then(None, None, None, js=follow.LOOK)


def _refresh_choices(store: RunStore, chosen: gr.Dropdown, quiet: dict[str, Any]) -> None:
    """List the runs anew whenever the list is opened."""

    def list_again(request: gr.Request) -> Any:
        return gr.update(choices=choices_of(store, request))

    chosen.focus(list_again, None, chosen, **quiet)


def choices_of(store: RunStore, request: gr.Request) -> list[tuple[str, str]]:
    """List the visitor's runs as a dropdown shows them."""
    runs = store.list(user=who(request).user)
    return [(f"{run.name} · {_when(run)} · {run.run_id[-4:]}", run.run_id) for run in runs]


def _when(run: Run) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created_s))
