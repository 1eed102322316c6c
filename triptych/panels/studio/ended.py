"""What can be done with a run besides watching it: note, repeat, evaluate, publish, deploy, go on.

Each act is a command of this program run in the visitor's name, so that the page can do nothing
that a terminal could not, and never uses a token that is not the visitor's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

import gradio as gr

from triptych.config import Config, load_config
from triptych.errors import TriptychError, UsageError
from triptych.lm.runs import control
from triptych.lm.runs.reproduce import command, config_toml
from triptych.lm.runs.rights import check_quota
from triptych.lm.runs.store import Run, RunStore
from triptych.panels import explain, publishing
from triptych.panels.command import run_triptych
from triptych.panels.publishing import best
from triptych.panels.visitor import Visitor, who

ACT_S = 900.0
Act = Callable[..., str]


def draw(store: RunStore, chosen: gr.Dropdown) -> None:
    """Draw the acts below a run and connect them."""
    _draw_description(store, chosen)
    with gr.Accordion("Evaluate, publish, deploy, go on", open=False):
        evaluate = gr.Button("Evaluate on the whole held-out text")
        with gr.Row(elem_classes="acts"):
            repo = gr.Textbox(label="Repository", placeholder="owner/name", scale=3)
            private = gr.Checkbox(label="Private", value=True, scale=1, min_width=120)
            publish = gr.Button("Publish its best checkpoint", scale=2)
        with gr.Row(elem_classes="acts"):
            space = gr.Textbox(label="Space", placeholder="owner/name", scale=4)
            deploy = gr.Button("Deploy what was published", scale=2)
        with gr.Row(elem_classes="acts"):
            more = gr.Number(label="More steps", value=1000, precision=0, scale=4)
            extend = gr.Button("Train further", scale=2)
        outcome = gr.Markdown("")

    def go_on(run: Run, visitor: Visitor, steps: Any) -> str:
        return _extend(store, run, visitor, steps)

    acts: list[tuple[gr.Button, list[Any], Act]] = [
        (evaluate, [], _evaluate),
        (publish, [repo, private], _publish),
        (deploy, [repo, space], _deploy),
        (extend, [more], go_on),
    ]
    for button, fields, act in acts:
        _connect(store, button, [chosen, *fields], outcome, act)


def _draw_description(store: RunStore, chosen: gr.Dropdown) -> None:
    """Draw name, tags and notes of a run, and the command that reproduces it."""
    with gr.Accordion("Name, notes and tags", open=False):
        with gr.Row():
            name = gr.Textbox(label="Name", scale=2)
            tags = gr.Textbox(label="Tags", placeholder="comma, separated", scale=2)
        notes = gr.Textbox(label="Notes", lines=3)
        keep = gr.Button("Save")
        saved = gr.Markdown("")
    with gr.Accordion("Reproduce", open=False) as reproduce:
        line = gr.Textbox(label="Command", interactive=False, buttons=["copy"])
        toml = gr.Textbox(label="Configuration", interactive=False, buttons=["copy"], lines=8)

    def describe(run_id: str | None, request: gr.Request) -> list[Any]:
        run = own(store, run_id, request)
        if run is None:
            return ["", "", "", "", ""]
        tags, notes = ", ".join(run.notes.get("tags", [])), run.notes.get("notes", "")
        return [run.name, tags, notes, command(run), config_toml(run)]

    def describe_again(run_id: str | None, request: gr.Request) -> list[Any]:
        # What the recipe derived is known only once the run has begun.
        return describe(run_id, request)[3:]

    def save(run_id: str | None, name: str, tags: str, notes: str, request: gr.Request) -> str:
        run = own(store, run_id, request)
        if run is None:
            raise gr.Error("choose a run first", duration=4)
        words = [tag.strip() for tag in tags.split(",") if tag.strip()]
        store.annotate(run.run_id, name=name[:200], tags=words[:20], notes=notes[:10_000])
        return "Saved."

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    chosen.change(describe, chosen, [name, tags, notes, line, toml], queue=False, **quiet)
    reproduce.expand(describe_again, chosen, [line, toml], queue=False, **quiet)
    keep.click(save, [chosen, name, tags, notes], saved, queue=False, **quiet)


def own(store: RunStore, run_id: str | None, request: gr.Request) -> Run | None:
    """Return a run of this user; None for the run of another user."""
    if not run_id:
        return None
    try:
        run = store.get(run_id)
    except TriptychError:
        return None
    return run if run.user == who(request).user else None


def _connect(
    store: RunStore,
    button: gr.Button,
    inputs: Sequence[Any],
    outcome: gr.Markdown,
    act: Act,
) -> None:
    """Let a button do something to the chosen run and say how it went."""

    def press(request: gr.Request, run_id: str | None, *values: Any) -> str:
        run = own(store, run_id, request)
        if run is None:
            return explain.trouble(UsageError("choose a run first"))
        try:
            return act(run, who(request), *values)
        except TriptychError as error:
            return explain.trouble(error)

    name = act.__name__.strip("_")
    button.click(press, list(inputs), outcome, api_visibility="private", api_name=name)


def _evaluate(run: Run, visitor: Visitor) -> str:
    data = run.request["config"]["train"]["data"] if run.request else None
    if not data:
        raise UsageError("the corpus of this run is not known", hint="use `triptych eval`")
    told = run_triptych(["eval", str(best(run)), "--data", data, "--json"], visitor, ACT_S)
    value = json.loads(told)
    value = value[0] if isinstance(value, list) else value
    return (
        f"Loss **{value['loss']:.4f}** nats per token, perplexity **{value['perplexity']:.2f}**, "
        f"**{value['bpb']:.4f}** bits per byte, over {value['tokens']:,} tokens."
    )


def _publish(run: Run, visitor: Visitor, repo: str, private: bool) -> str:
    done = publishing.publish(run, repo, private, visitor)
    new = "Published" if done["committed"] else "Nothing new"
    return f"{new}: [{done['repo']}]({done['url']}) at `{done['commit'][:12]}`."


def _deploy(run: Run, visitor: Visitor, repo: str, space: str) -> str:
    visitor.hub()
    if "/" not in (repo or "") or "/" not in (space or ""):
        raise UsageError("name the repository and the Space", hint="publish first; owner/name")
    run_triptych(["spaces", "deploy", repo, space, "--json", "--app", "tier"], visitor, ACT_S)
    return f"`{space}` serves `{repo}` and has said so itself."


def _extend(store: RunStore, run: Run, visitor: Visitor, steps: Any) -> str:
    check_quota(store, load_config().runs, visitor.user, int(steps or 0))
    made = control.extend(store, run.run_id, int(steps or 0), user=visitor.user)
    return f"Queued as **{made.name}** (`{made.run_id}`)."


def links(run: Run, config: Config, playground: str) -> str:
    """Draw where to go from here: only what is there can be opened or downloaded."""
    places = run.path / "checkpoints"
    steps = sorted(path.name for path in places.glob("step-*")) if places.is_dir() else []
    parts = [f'<a href="/api/runs/{run.run_id}/config.toml" download>configuration</a>']
    if steps:
        parts.insert(0, _download(run.run_id, steps[-1]))
        if playground:
            address = playground_address(playground, config, run.run_id, steps)
            parts.insert(0, f'<a href="{escape(address)}">Open in the Playground</a>')
    return f'<p class="links">{" · ".join(parts)}</p>'


def _download(run_id: str, step: str) -> str:
    address = f"/api/runs/{run_id}/checkpoints/{step}/model.safetensors"
    return f'<a href="{address}" download>download the weights (safetensors)</a>'


def playground_address(playground: str, config: Config, run_id: str, steps: Sequence[str]) -> str:
    """Return the address that opens a run's first and last checkpoint side by side."""
    ends = dict.fromkeys((steps[0], steps[-1]))
    return comparison_address(playground, config, [f"{run_id}/{step}" for step in ends])


def comparison_address(playground: str, config: Config, references: Sequence[str]) -> str:
    """Return the address that opens some checkpoints side by side."""
    sampling = config.generate
    state = [
        list(references), "The ", sampling.temperature, sampling.top_k,
        sampling.top_p, sampling.min_p, sampling.repetition_penalty, 64, 1,
    ]  # fmt: skip
    return f"{playground}?c={quote(json.dumps(state))}"
