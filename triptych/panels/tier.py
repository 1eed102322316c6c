"""The page and the program of a tier Space: one model, asked by people and by the gateway.

One process answers plain HTTP (`/api/generate`, `/v1/...`, `/health`) and Gradio's endpoint
`generate`; both run the same function, so both give the same text. The model is named by the
variables MODEL_ID (repository or folder) and MODEL_VERSION (commit). All three tiers are this one
template: what makes a tier is its model and the context it is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import gradio as gr
from fastapi import FastAPI
from pydantic import ValidationError

from triptych.config import environment, load_config
from triptych.errors import ConfigError, TriptychError
from triptych.hub.pull import is_repository, pull
from triptych.lm.serve.app import create_app, run_app
from triptych.lm.serve.generate_api import begin
from triptych.lm.serve.models import build_service, describe_model
from triptych.lm.serve.service import ModelService
from triptych.panels import look
from triptych.processes.ports import bind
from triptych.wire.requests import GenerateBody, fault_messages

PORT = 7860


def launch() -> None:
    """Run the Space: read its variables, load its model, answer until told to stop."""
    service = service_from_variables()
    # A hub sends requests here as soon as the port answers, so nothing listens before the model
    # is loaded: a broken one ends the process, and the version before it serves on.
    with asyncio.run(service.lease(next(iter(service.models.values())))):
        app = build_app(service, environment.secret("TRIPTYCH_SERVE_TOKEN"))
    host = environment.get("GRADIO_SERVER_NAME", "127.0.0.1") or ""
    port = int(environment.get("GRADIO_SERVER_PORT") or environment.get("PORT") or PORT)
    run_app(app, bind(host, port), drain_s=10.0)


def service_from_variables() -> ModelService:
    """Build the service of the model that MODEL_ID and MODEL_VERSION name.

    Raises: ConfigError where MODEL_ID is not set.
    """
    model_id = environment.get("MODEL_ID")
    if not model_id:
        raise ConfigError(
            "the variable MODEL_ID is not set",
            hint="set it to a model repository such as acme/base, and MODEL_VERSION to its commit",
        )
    version = environment.get("MODEL_VERSION") or ""
    model = describe_model(model_id, lambda _: find_model(model_id, version), revision=version)
    return build_service([model], load_config())


def find_model(model_id: str, version: str) -> Path:
    """Give the folder of the model: a folder as it is, a repository from the hub or its cache."""
    folder = Path(model_id).expanduser()
    if folder.is_dir() or not is_repository(model_id):
        return folder
    return pull(f"{model_id}@{version}" if version else model_id)


def build_app(service: ModelService, token: environment.Secret | None = None) -> FastAPI:
    """Put the page on the model's HTTP face."""
    app = create_app(service, token=token)
    return gr.mount_gradio_app(
        app,
        build_page(service),
        path="/",
        **{**look.options(), "footer_links": ["api"]},
    )


def build_page(service: ModelService) -> gr.Blocks:
    """Draw the page: a prompt, what the tier knows, the answer as it is written."""
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
    return look.at_home(page)


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
