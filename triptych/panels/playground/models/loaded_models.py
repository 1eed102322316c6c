"""The models that are loaded for comparison, and a description of each."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator
from pathlib import Path

from triptych.config import Config
from triptych.config.generate import Sampling
from triptych.errors import GenerationError, TriptychError
from triptych.lm.generate.engine import Chunk, Engine, GenerateRequest, Score
from triptych.lm.generate.select_engine import open_engine, weights_bytes
from triptych.lm.serve.models import describe_model
from triptych.lm.serve.service import Chosen, ModelService, ServedModel, UnknownModel
from triptych.panels.playground.models.model_list import ModelList

OPENED_AT_MOST = 256


class LoadedModels(ModelService):
    """Serves the models on offer; each is found at its first request.

    A repository's model goes by its commit (`acme/base@0123456789ab`), so that a newer one never
    answers under the same name.
    """

    def __init__(self, config: Config, model_list: ModelList) -> None:
        self.model_list = model_list
        self._generate = config.generate
        self._names: dict[str, str] = {}
        super().__init__(
            [],
            self._open,
            lambda model: weights_bytes(model.folder, self._generate),
            config=config.serve,
            defaults=Sampling(
                **{
                    field.name: getattr(config.generate, field.name)
                    for field in dataclasses.fields(Sampling)
                }
            ),
            max_batch=config.generate.max_batch,
            memory_bytes=config.generate.cache_memory_bytes,
        )

    def choose(self, name: str | None, adapter: str | None = None) -> Chosen:
        """Find the model that a client of the HTTP API names: offered, or opened before.

        Raises: UnknownModel with the nearest names.
        """
        name = self._names.get(name or "", name)
        if name in self.model_list.named and name not in self.models:
            raise GenerationError(
                self.failures.get(name, f"{name} is still being fetched"),
                hint="try again in a moment",
                code="busy",
                retryable=True,
            )
        if name and name not in self.models and self.model_list.is_offered(name):
            self._describe(name)
        if not self.models:
            self.list_offered()
        if not self.models:
            raise UnknownModel("there is no model here yet", hint="`triptych train` makes one")
        return super().choose(name, adapter)

    def list_offered(self) -> None:
        """Bring checkpoints that appeared meanwhile onto the list; nothing is fetched."""
        for choice in self.model_list.choices():
            if (
                choice.reference not in self.models
                and choice.reference not in self.model_list.named
            ):
                self._describe(choice.reference)

    async def find(self, reference: str) -> ServedModel:
        """Find a model and fetch it where it is not here yet, without loading it.

        Raises: UnknownModel, HubError, CheckpointError.
        """
        return await asyncio.to_thread(self._describe, reference)

    def known(self, reference: str) -> ServedModel | None:
        """Return a model that was found before; nothing is looked for."""
        return self.models.get(self._names.get(reference, reference))

    def is_loaded(self, model: ServedModel) -> bool:
        """Return whether an answer could begin at once."""
        return self.engine_of(model.name) is not None

    async def chunks(
        self, model: ServedModel, request: GenerateRequest
    ) -> AsyncGenerator[Chunk, None]:
        """Yield one answer; leaving early cancels it.

        Raises: TooBusy, GenerationError.
        """
        adapter = request.adapter or model.default_adapter
        request = dataclasses.replace(request, adapter=adapter)
        answer = await self.answer(Chosen(model, adapter), [request])
        try:
            async for batch in answer.batches():
                for _, chunk in batch:
                    yield chunk
        finally:
            answer.close()

    async def score(self, model: ServedModel, text: str, *, alternatives: int = 0) -> Score:
        """Return the probability of each token of a text.

        Raises: GenerationError.
        """
        with await self.lease(model) as engine:
            return await asyncio.to_thread(
                engine.score, text, alternatives=alternatives, adapter=model.default_adapter
            )

    async def fetch_named(self) -> None:
        """Fetch what was named at the start, so that the first visitor need not wait for it."""
        for name in self.model_list.named:
            try:
                await self.find(name)
            except TriptychError as error:
                self.failures[name] = error.message

    def _describe(self, reference: str) -> ServedModel:
        folder = self.model_list.folder(reference)
        name = reference
        if folder.parent.name == "snapshots":
            name = f"{reference.removeprefix('hf://').partition('@')[0]}@{folder.name[:12]}"
        model = self.models.get(name)
        if model is None or folder not in (model.folder, *model.adapters.values()):

            def resolve(wanted: str) -> Path:
                return (
                    folder
                    if wanted == reference
                    else self.model_list.base_folder(wanted, reference)
                )

            model = describe_model(reference, resolve, name=name)
            self.models[name] = model
            self._forget_oldest()
        self._names[reference] = name
        return model

    def _forget_oldest(self) -> None:
        opened = [name for name in self.models if not self.model_list.is_offered(name)]
        for name in opened[:-OPENED_AT_MOST]:
            if not self._active[name]:
                del self.models[name]

    def _open(self, model: ServedModel) -> Engine:
        return open_engine(
            model.folder,
            self._generate,
            model=model.name,
            revision=model.revision,
            adapters=model.adapters,
            kv_cache_bytes=self.config.kv_cache_bytes,
            prompt_cache_bytes=self.config.prompt_cache_bytes,
        )
