"""The place where one run is watched: drawn from its files, steered by small files beside them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from triptych.config import Config
from triptych.errors import TriptychError
from triptych.lm.runs import control
from triptych.lm.runs.states import ALLOWED, Wish
from triptych.lm.runs.store import Run, RunStore
from triptych.panels.studio import drawing, ended
from triptych.panels.studio.ended import own
from triptych.panels.studio.visitor import who

# Changes the address without loading the page again.
SHOW_RUN = """(run) => {
  const url = new URL(window.location);
  if (run) { url.searchParams.set('run', run); } else { url.searchParams.delete('run'); }
  window.history.replaceState({}, '', url);
}"""
# A drawing may cost this share of a core, so a long run is drawn less often than a short one.
DRAWING_FRAC = 0.1
# What the three buttons wish for, in their order.
WISHES: tuple[Wish, ...] = ("pause", "run", "cancel")


class Drawings:
    """Keep the newest drawing of each run, for all who watch it."""

    def __init__(self, store: RunStore, config: Config, playground: str = "") -> None:
        self._store = store
        self._playground = playground
        self._config = config
        self._drawn: dict[str, _Drawn] = {}

    def of(self, run_id: str) -> list[str]:
        """Return a drawing of a run that is as new as its cost allows."""
        known = self._drawn.get(run_id)
        now_s = time.monotonic()
        if known and now_s < known.good_until_s:
            return known.parts
        signature = self._signature(run_id)
        if known and known.signature == signature:
            return known.parts
        began_s = time.thread_time()
        parts = self._draw(run_id)
        cost_s = time.thread_time() - began_s
        good_until_s = now_s + max(self._config.panels.refresh_s / 2, cost_s / DRAWING_FRAC)
        self._drawn = {**self._latest(), run_id: _Drawn(parts, signature, good_until_s)}
        return parts

    def _draw(self, run_id: str | None) -> list[str]:
        parts = drawing.everything(self._store, self._config, run_id)
        try:
            run = self._store.get(run_id or "")
        except TriptychError:
            return [*parts, ""]
        return [*parts, ended.links(run, self._config, self._playground)]

    def nothing(self) -> list[str]:
        """Draw the page of somebody who has chosen no run."""
        return self._draw(None)

    def forget(self, run_id: str) -> None:
        """Draw a run anew at the next look, because somebody just changed it."""
        self._drawn.pop(run_id, None)

    def _latest(self) -> dict[str, _Drawn]:
        return dict(list(self._drawn.items())[-31:])

    def _signature(self, run_id: str) -> tuple[Any, ...]:
        """Say what a drawing depends on, without reading the events."""
        try:
            run = self._store.get(run_id)
        except TriptychError:
            return ()
        sizes = [
            path.stat().st_size if (path := run.path / name).exists() else 0
            for name in ("events.jsonl", "worker.log")
        ]
        return (run.state, run.message, *sizes, int(time.time()) // 10)


@dataclass
class _Drawn:
    parts: list[str]
    signature: tuple[Any, ...]
    good_until_s: float


@dataclass
class Watch:
    """The components of the place."""

    chosen: gr.Dropdown
    buttons: tuple[gr.Button, ...]
    shown: list[Any] = field(default_factory=list)


def draw(store: RunStore) -> Watch:
    """Draw the place where one run is watched."""
    with gr.Row(elem_classes="acts"):
        chosen = gr.Dropdown([], value=None, label="Run", scale=4, min_width=240)
        # What a run's state does not allow cannot be pressed.
        off: dict[str, Any] = {"scale": 1, "min_width": 120, "interactive": False}
        pause = gr.Button("Stop (saves)", **off)
        resume = gr.Button("Resume", **off)
        cancel = gr.Button("End for good", variant="stop", **off)
    head = gr.HTML()
    with gr.Row():
        with gr.Column(min_width=300):
            loss = gr.HTML(min_height=0)
        with gr.Column(min_width=300):
            bpb = gr.HTML(min_height=0)
    links = gr.HTML()
    samples = gr.HTML()
    ended.draw(store, chosen)
    with gr.Accordion("More curves", open=False):
        more = gr.HTML()
    with gr.Accordion("Log", open=False):
        log = gr.HTML()
    return Watch(chosen, (pause, resume, cancel), [head, loss, bpb, samples, more, log, links])


def keep_watching(
    page: gr.Blocks,
    store: RunStore,
    config: Config,
    watch: Watch,
    tabs: gr.Tabs,
    playground: str = "",
) -> None:
    """Show the chosen run's true state, now and as long as the page is open."""
    chosen, drawings = watch.chosen, Drawings(store, config, playground)
    last = gr.State([])

    def look_at(run_id: str | None, request: gr.Request) -> list[str | bool]:
        run = own(store, run_id, request)
        drawn = drawings.of(run.run_id) if run else drawings.nothing()
        may = [run is not None and run.state in ALLOWED[wish] for wish in WISHES]
        return [*drawn, *may]

    def look_again(run_id: str | None, before: list[Any], request: gr.Request) -> list[Any]:
        parts = look_at(run_id, request)
        if parts == before:
            return [gr.skip()] * (len(parts) + 1)
        # What has not changed is not sent again.
        return [*map(_sent, parts, [*before, *[None] * len(parts)]), parts]

    def arrive(request: gr.Request) -> tuple[Any, ...]:
        wanted = dict(request.query_params).get("run") if request else None
        choices = choices_of(store, request)
        known = wanted if wanted in [value for _, value in choices] else None
        tab = gr.update(selected="watch") if known else gr.skip()
        return gr.update(choices=choices, value=known), tab

    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    places = [*watch.shown, *watch.buttons, last]
    page.load(arrive, None, [chosen, tabs], **quiet)
    chosen.change(look_again, [chosen, last], places, **quiet)
    chosen.change(None, chosen, None, js=SHOW_RUN)
    _refresh_choices(store, chosen, quiet)
    timer = gr.Timer(config.panels.refresh_s)
    timer.tick(look_again, [chosen, last], places, **quiet)
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
            drawings.forget(run.run_id)

        pressed = button.click(press, chosen, None, show_progress="hidden", api_name=act.__name__)
        pressed.then(look_again, [chosen, last], places, **quiet)


def _sent(part: str | bool, before: str | bool | None) -> Any:
    """Give what a component is told: a drawing, or whether a button can be pressed."""
    if part == before:
        return gr.skip()
    return gr.update(interactive=part) if isinstance(part, bool) else part


def _refresh_choices(store: RunStore, chosen: gr.Dropdown, quiet: dict[str, Any]) -> None:
    """List the runs anew whenever somebody opens the list."""

    def list_again(request: gr.Request) -> Any:
        return gr.update(choices=choices_of(store, request))

    chosen.focus(list_again, None, chosen, **quiet)


def choices_of(store: RunStore, request: gr.Request) -> list[tuple[str, str]]:
    """List the visitor's runs as a dropdown shows them."""
    runs = store.list(user=who(request).user)
    return [(f"{run.name} · {_when(run)} · {run.run_id[-4:]}", run.run_id) for run in runs]


def _when(run: Run) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created_s))
