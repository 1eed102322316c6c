"""The page of a tier Space: a prompt, what the tier knows, the answer as it is written."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import gradio as gr
from fastapi import FastAPI
from pydantic import ValidationError

from triptych.errors import TriptychError
from triptych.lm.serve.generate_api import begin
from triptych.lm.serve.service import ModelService
from triptych.panels import theme
from triptych.wire.requests import GenerateBody, fault_messages


def page_app(service: ModelService) -> FastAPI:
    """Make an application of the page alone."""
    options = {**theme.options(), "footer_links": ["api"]}
    app: FastAPI = gr.mount_gradio_app(FastAPI(), build_page(service), path="/", **options)
    return app


def build_page(service: ModelService) -> gr.Blocks:
    """Draw the page of the service's first model."""
    model = next(iter(service.models.values()))
    defaults = service.defaults
    with gr.Blocks(title=model.name, analytics_enabled=False) as page:
        gr.Markdown(f"## {model.name}\nRevision `{model.revision or 'local'}`")
        prompt = gr.Textbox(label="Prompt", lines=4, autofocus=True)
        with gr.Row():
            max_new_tokens = gr.Slider(
                1, 1024, defaults.max_new_tokens, step=1, label="New tokens at most"
            )
            temperature = gr.Slider(
                0, 2, defaults.temperature, step=0.05, label="Temperature (0: no chance)"
            )
            seed = gr.Number(-1, precision=0, label="Seed (-1: new each time)")
        with gr.Accordion("What the tier knows", open=False):
            context = gr.Textbox(label="Company context (JSON or words)", lines=3)
            abstraction = gr.Textbox(label="Abstraction context (JSON or words)", lines=3)
            history = gr.Textbox(label="History (lines `user: ...`, `assistant: ...`)", lines=3)
        with gr.Row():
            ask = gr.Button("Generate", variant="primary")
            stop = gr.Button("Stop")
        answer = gr.Textbox(label="Answer", lines=8)

        async def generate(
            prompt: str,
            max_new_tokens: float,
            temperature: float,
            seed: float | None,
            context: str,
            abstraction_context: str,
            conversation_history: str,
        ) -> AsyncGenerator[str, None]:
            params = {
                "max_new_tokens": int(max_new_tokens),
                "temperature": float(temperature),
                "seed": None if seed is None or seed < 0 else int(seed),
                "context": context or None,
                "abstraction_context": abstraction_context or None,
                "conversation_history": conversation_history or None,
            }
            async for text in _texts(service, {"prompt": prompt, "params": params}):
                yield text

        inputs = [prompt, max_new_tokens, temperature, seed, context, abstraction, history]
        limit = service.config.max_waiting
        asked = gr.on(
            [ask.click, prompt.submit],
            generate,
            inputs,
            answer,
            api_name="generate",
            concurrency_limit=limit or None,
        )
        stop.click(None, cancels=[asked], queue=False, api_visibility="private")
    page.queue(max_size=limit or None)
    return theme.at_home(page)


async def _texts(service: ModelService, body: dict[str, object]) -> AsyncGenerator[str, None]:
    try:
        generation = await begin(service, GenerateBody.model_validate(body))
        text = ""
        async for piece in generation.pieces():
            text += piece
            yield text
        yield generation.answer().generated_text
    except ValidationError as fault:
        sentences = [words for _, words in fault_messages(fault.errors(), GenerateBody)]
        raise gr.Error("; ".join(sentences), print_exception=False) from fault
    except TriptychError as fault:
        raise gr.Error(fault.message, print_exception=False) from fault
