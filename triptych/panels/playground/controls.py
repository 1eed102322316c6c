"""The controls of a comparison: what is compared, on which prompt, how the next token is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from pydantic import ValidationError

from triptych.config import Config
from triptych.config.generate import Sampling
from triptych.errors import TriptychError, UsageError

MOST_MODELS = 4
MOST_NEW_TOKENS = 512
# How a prompt is read; None lets each model's training decide.
READINGS: dict[str, bool | None] = {"auto": None, "chat": True, "text": False}
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class Controls:
    """The controls in the order in which the permalink holds their values."""

    models: gr.Dropdown
    prompt: gr.Textbox
    sampling: tuple[Any, ...]
    stop: gr.Textbox
    chat: gr.Radio
    blind: gr.Checkbox

    @property
    def all(self) -> list[Any]:
        """List every control."""
        return [self.models, self.prompt, *self.sampling, self.stop, self.chat, self.blind]


@dataclass(frozen=True)
class Asked:
    """What the controls say, checked."""

    references: tuple[str, ...]
    prompt: str
    sampling: Sampling
    chat: bool | None
    blind: bool


def sampling_controls(defaults: Sampling) -> tuple[tuple[Any, ...], gr.Button]:
    """Draw every sampling parameter with a line that explains it; the seed is the last."""
    temperature = gr.Slider(
        0, 2, defaults.temperature, step=0.05, label="Temperature",
        info="0 always takes the likeliest token; higher is bolder",
    )  # fmt: skip
    top_k = gr.Slider(
        0, 200, defaults.top_k, step=1, label="Top-k",
        info="choose among the k likeliest tokens; 0 among all",
    )  # fmt: skip
    top_p = gr.Slider(
        0.05, 1, defaults.top_p, step=0.05, label="Top-p",
        info="choose among the likeliest that together reach p",
    )  # fmt: skip
    min_p = gr.Slider(
        0, 1, defaults.min_p, step=0.01, label="Min-p",
        info="leave out tokens far less likely than the likeliest",
    )  # fmt: skip
    penalty = gr.Slider(
        1, 2, defaults.repetition_penalty, step=0.05, label="Repetition penalty",
        info="above 1 makes repeating itself less likely",
    )  # fmt: skip
    length = gr.Slider(
        1, MOST_NEW_TOKENS, min(defaults.max_new_tokens, MOST_NEW_TOKENS), step=1,
        label="New tokens", info="where writing ends at the latest",
    )  # fmt: skip
    seed = gr.Number(
        1, precision=0, minimum=0, label="Seed", info="the same seed gives the same text"
    )
    dice = gr.Button("New seed")
    return (temperature, top_k, top_p, min_p, penalty, length, seed), dice


def read(values: Sequence[Any], config: Config) -> Asked:
    """Read the controls' values.

    Raises: UsageError naming what is missing, too long or out of range.
    """
    references = tuple(dict.fromkeys(str(value).strip() for value in values[0] or ()))
    prompt = str(values[1] or "")
    if not references:
        raise UsageError("choose at least one model", hint="`make demo` trains one")
    if len(references) > MOST_MODELS:
        raise UsageError(f"at most {MOST_MODELS} models are compared at once")
    if not prompt:
        raise UsageError("the prompt is empty", hint="write the beginning of a text")
    most = config.panels.prompt_chars
    if len(prompt) > most:
        raise UsageError(
            f"the prompt has {len(prompt):,} characters, {most:,} are allowed", hint="shorten it"
        )
    temperature, top_k, top_p, min_p, penalty, length, seed = values[2:9]
    stop = tuple(line for line in str(values[9] or "").splitlines() if line)
    try:
        sampling = Sampling(
            temperature=temperature,
            top_k=int(top_k),
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=penalty,
            max_new_tokens=min(int(length), MOST_NEW_TOKENS),
            seed=None if seed is None else int(seed),
            stop=stop,
        )
    except (ValidationError, TypeError, ValueError) as error:
        raise UsageError(f"the sampling does not fit: {_first(error)}") from error
    chat = READINGS.get(str(values[10]))
    return Asked(references, prompt, sampling, chat, bool(values[11]))


def refusal(error: TriptychError) -> gr.Error:
    """Return an error for the page: what went wrong and what to do next."""
    words = f"{error.message}. {error.hint}" if error.hint else error.message
    return gr.Error(words, duration=10, print_exception=False)


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        return f"{fault['loc'][-1]}: {fault['msg']}"
    return str(error)
