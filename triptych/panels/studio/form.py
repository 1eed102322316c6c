"""The form of a new run: text, start, the main settings, and every other field, with its words.

The fields under "advanced" are those of `config/train.py`, their hints its docstrings, so the
form can offer nothing that the trainer does not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from pydantic import TypeAdapter

from triptych.config.model import ModelSection
from triptych.config.train import TrainConfig
from triptych.panels.studio.corpus import FILE_TYPES
from triptych.panels.studio.start import PRESETS, Choice

RECIPE = "automatic"

# name -> values offered, and what it means
NINE: Mapping[str, tuple[tuple[str, ...], str]] = {
    "learning_rate": (
        ("0.0001", "0.0003", "0.0005", "0.001"),
        "how far each step goes; these are rates for AdamW",
    ),
    "batch": (("4", "8", "16", "32"), "sequences read at once"),
    "steps": (("1000", "2000", "5000", "10000"), "how often the weights are changed"),
    "accumulation": (("1", "2", "4", "8"), "batches read before one step"),
    "optimizer": (
        ("auto", "muon", "adamw", "adam", "sgd"),
        "how a step is found from the gradient",
    ),
    "schedule": (("wsd", "cosine", "linear", "constant"), "how the rate falls towards the end"),
    "weight_decay": (("0.0", "0.01", "0.1"), "how strongly weights are pulled towards zero"),
    "grad_clip": (("0.5", "1.0", "2.0"), "limit on gradient size"),
    "warmup_steps": (("100", "500", "1000"), "steps until the full rate is reached"),
}
TITLES = {
    "learning_rate": "Learning rate",
    "batch": "Batch",
    "steps": "Steps",
    "accumulation": "Accumulation",
    "optimizer": "Optimizer",
    "schedule": "Scheduler",
    "weight_decay": "Weight decay",
    "grad_clip": "Gradient clipping",
    "warmup_steps": "Warmup steps",
}
_ELSEWHERE = {*NINE, "data", "init_from", "budget_s"}


@dataclass
class Form:
    """The components of the form, and how to read their values."""

    plain: dict[str, Any] = field(default_factory=dict)
    nine: dict[str, Any] = field(default_factory=dict)
    advanced: dict[str, Any] = field(default_factory=dict)

    @property
    def components(self) -> list[Any]:
        """Return every component, in the order `read` expects the values."""
        return [*self.plain.values(), *self.nine.values(), *self.advanced.values()]

    def read(self, values: Sequence[Any]) -> Choice:
        """Turn the values of the components into a choice."""
        given = dict(zip(self._names(), values, strict=True))
        settings = []
        for name in NINE:
            value = str(given[f"nine.{name}"] or "").strip()
            if value and value != RECIPE and name not in ("batch", "accumulation"):
                settings.append(f"train.{name}={value}")
        for name, known in fields().items():
            written = _written(given[f"advanced.{name}"], known)
            if written is not None:
                settings.append(f"train.{name}={written}")
        lines = str(given["plain.other"] or "").splitlines()
        settings += [line.strip() for line in lines if line.strip()]
        return Choice(
            text=given["plain.text"] or "",
            files=given["plain.files"] or (),
            dataset=given["plain.dataset"] or "",
            corpus=given["plain.corpus"] or "",
            start=(given["plain.repository"] or "").strip() or given["plain.start"] or "",
            preset=given["plain.preset"],
            minutes=given["plain.minutes"] or "",
            size=given["plain.size"],
            name=given["plain.name"] or "",
            batch=_count(given["nine.batch"]),
            accumulation=_count(given["nine.accumulation"]),
            settings=settings,
        )

    def _names(self) -> list[str]:
        parts = {"plain": self.plain, "nine": self.nine, "advanced": self.advanced}
        return [f"{part}.{name}" for part, known in parts.items() for name in known]


def fields() -> dict[str, dict[str, Any]]:
    """Read the remaining fields of the section `train`: kind, default and words."""
    schema = TypeAdapter(TrainConfig).json_schema()["properties"]
    return {name: known for name, known in schema.items() if name not in _ELSEWHERE}


def draw_text(form: Form) -> None:
    """Draw where the text comes from."""
    gr.Markdown("### 1. Text to learn from")
    form.plain["text"] = gr.Textbox(
        label="Paste text",
        lines=8,
        max_lines=8,
        placeholder="Paste a few pages of anything: stories, minutes, a manual. "
        "More text makes a better model; a few pages are enough to see one learn.",
    )
    with gr.Accordion("Or upload files, a dataset of the hub, or a corpus you built", open=False):
        form.plain["files"] = gr.File(
            label="Files", file_count="multiple", height=140,
            file_types=[*FILE_TYPES, ".gz", ".zst"],
        )  # fmt: skip
        form.plain["dataset"] = gr.Textbox(
            label="Dataset on the hub", placeholder="owner/name or owner/name:subset:split"
        )
        form.plain["corpus"] = gr.Dropdown([], label="A corpus you built", value=None)


def draw_how(form: Form) -> None:
    """Draw what starts, how large, how long, and the main settings."""
    gr.Markdown("### 2. The model")
    sizes = TypeAdapter(ModelSection).json_schema()["properties"]["size"]["enum"]
    form.plain["size"] = gr.Radio(
        sizes, value="nano", label="Size", info="larger learns more from much text, and slower"
    )
    form.plain["start"] = gr.Dropdown(
        [("from scratch", "")], value="", label="Start", info="or from a run's checkpoint"
    )
    form.plain["repository"] = gr.Textbox(
        label="or start from a model on the hub", placeholder="owner/name or owner/name@revision"
    )
    form.plain["name"] = gr.Textbox(label="Name", placeholder="my first model")
    gr.Markdown("### 3. The training")
    lengths = [(f"{name} ({seconds / 60:.0f} min)", name) for name, seconds in PRESETS.items()]
    with gr.Row():
        form.plain["preset"] = gr.Radio(
            lengths, value="quick", label="How long", scale=3, min_width=240
        )
        form.plain["minutes"] = gr.Textbox(
            label="or minutes", placeholder="such as 5", scale=1, min_width=110
        )
    with gr.Accordion("Main settings", open=False), gr.Row():
        for name, (values, words) in NINE.items():
            fixed = name in ("optimizer", "schedule")
            default = str(getattr(TrainConfig(), name)) if fixed else RECIPE
            form.nine[name] = gr.Dropdown(
                list(values) if fixed else [RECIPE, *values],
                value=default, label=TITLES[name], info=words,
                allow_custom_value=not fixed, min_width=180,
            )  # fmt: skip


def draw_advanced(form: Form) -> None:
    """Draw every other field of the section, generated from the section itself."""
    with gr.Accordion("Advanced: every other setting", open=False):
        gr.Markdown("Empty means: derived by the recipe from model, text and machine.")
        with gr.Row():
            for name, known in fields().items():
                form.advanced[name] = _component(name, known)
        form.plain["other"] = gr.Textbox(
            label="Any other setting, one per line",
            placeholder="model.num_hidden_layers=6\ntrain.learning_rate=0.01",
            lines=3,
        )


def _component(name: str, known: Mapping[str, Any]) -> Any:
    label, default = name.replace("_", " "), known.get("default")
    words: dict[str, Any] = {"label": label, "info": known.get("description", ""), "min_width": 240}
    if "enum" in known:
        return gr.Dropdown(known["enum"], value=default, **words)
    if known.get("type") == "boolean":
        return gr.Checkbox(value=default, **words)
    if known.get("type") == "string":
        return gr.Textbox(value=default, **words)
    if known.get("type") == "array":
        return gr.Textbox(value="", placeholder="a, b, c", **words)
    return gr.Textbox(value="" if default is None else f"{default:g}", **words)


def _written(value: Any, known: Mapping[str, Any]) -> str | None:
    """Write a changed value as a setting; None when it is the default."""
    default = known.get("default")
    if known.get("type") == "boolean":
        return None if bool(value) == default else str(bool(value)).lower()
    text = str(value or "").strip()
    if known.get("type") == "array":
        parts = [part.strip() for part in text.split(",") if part.strip()]
        numbers = known.get("items", {}).get("type") == "integer"
        return (f"[{', '.join(parts)}]" if numbers else json.dumps(parts)) if parts else None
    same = "" if default is None else default if isinstance(default, str) else f"{default:g}"
    return None if text in ("", same) else text


def _count(value: Any) -> int | None:
    text = str(value or "").strip()
    return int(text) if text.isdigit() and int(text) > 0 else None
