"""From what a person names to what is served: names, revisions, engines, the service."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from triptych.config import Config
from triptych.config.generate import Sampling
from triptych.durable import sha256_file
from triptych.errors import UsageError
from triptych.lm.export.gguf_folder import read_record
from triptych.lm.generate.engine import Engine
from triptych.lm.generate.select_engine import open_engine, select_engine, weights_bytes
from triptych.lm.model.adapter_record import CONFIG, check_base, find_source, is_adapter
from triptych.lm.serve.service import ModelService, ServedModel

Resolve = Callable[[str], Path]


def describe_model(
    reference: str,
    resolve: Resolve,
    *,
    name: str = "",
    revision: str = "",
    adapters: Mapping[str, Path] | None = None,
) -> ServedModel:
    """Find a model's folder, its name for clients and its revision.

    An adapter is served on its base, under its own name. The revision of a hub snapshot is its
    commit; of any other folder, a digest of its weights.

    Raises: CheckpointError where one of the adapters was trained on another base.
    """
    source = find_source(reference, resolve)
    own = source.adapter or source.folder
    repo_id = reference.partition("@")[0]
    is_folder = Path(reference).expanduser().is_dir()
    name = name or (_folder_name(reference) if is_folder else _short(repo_id))
    for adapter in (adapters or {}).values():
        check_base(adapter, source.folder)
    return ServedModel(
        name=name,
        folder=source.folder,
        revision=revision or _revision(own),
        adapters={**({name: own} if source.adapter else {}), **(adapters or {})},
        created=int((own / (CONFIG if source.adapter else "config.json")).stat().st_mtime),
        default_adapter=name if source.adapter else None,
    )


def _folder_name(reference: str) -> str:
    """Return what a folder is called; a run by its own name, not that of its checkpoint."""
    return Path(reference).expanduser().resolve().name


def build_service(models: Sequence[ServedModel], config: Config) -> ModelService:
    """Build the service of these models with the engines the configuration chooses.

    Raises: UsageError where two models share a name.
    """
    names = [name for model in models for name in model.names]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise UsageError(
            f"two models are called {', '.join(doubles)}", hint="give each its own --name"
        )
    generate = config.generate

    defaults = Sampling(
        **{field.name: getattr(generate, field.name) for field in dataclasses.fields(Sampling)}
    )

    def open_model(model: ServedModel) -> Engine:
        choice = select_engine(model.folder, generate)
        print(f"{model.name}: engine {choice.engine}, {choice.reason}", file=sys.stderr)
        return open_engine(
            model.folder,
            generate,
            model=model.name,
            revision=model.revision,
            adapters=model.adapters,
            kv_cache_bytes=config.serve.kv_cache_bytes,
            prompt_cache_bytes=config.serve.prompt_cache_bytes,
        )

    return ModelService(
        models,
        open_model,
        lambda model: weights_bytes(model.folder, generate),
        config=config.serve,
        defaults=defaults,
        max_batch=generate.max_batch,
        memory_bytes=generate.cache_memory_bytes,
    )


def _short(reference: str) -> str:
    """Name a GGUF file without its folders; a repository keeps its whole name."""
    return Path(reference).stem if reference.endswith(".gguf") else reference


def _revision(folder: Path) -> str:
    real = folder.resolve()
    if real.parent.name == "snapshots":
        return real.name
    if given := read_record(real):
        return given.sha256[:12]
    manifest = real / "manifest.json"
    if manifest.is_file():
        try:
            files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
            weights_file = "adapter_model" if is_adapter(real) else "model"
            return str(files[f"{weights_file}.safetensors"]["sha256"])[:12]
        except (ValueError, KeyError, TypeError):
            pass
    weights = sorted(real.glob("*.safetensors"))
    return sha256_file(weights[0])[:12] if weights else ""
