"""Which model an adapter belongs to, and how it moves a text: `adapter_record.json`.

PEFT's own files name a base but cannot prove that it is the same one. The record beside them holds
the hashes of the base's weights and of its chat template, and a probe: token ids with their
log-probabilities under the base and under the adapter, taken when the adapter was saved. Loads no
torch. Left out: the weights of an adapter (`lora`), and measuring a probe (`lm/generate/adapters`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from triptych.durable import sha256_file, write_atomic
from triptych.errors import CheckpointError
from triptych.lm.model.tokenizer import Tokenizer

FORMAT_VERSION = 1
CONFIG = "adapter_config.json"
RECORD = "adapter_record.json"
_GGUF = "model.gguf"

Resolve = Callable[[str], Path]


@dataclass(frozen=True)
class Probe:
    """A text and the log-probability of each of its tokens from the second on.

    Units: nats, under the base alone and under the base with the adapter.
    """

    ids: tuple[int, ...]
    base: tuple[float, ...]
    adapted: tuple[float, ...]


@dataclass(frozen=True)
class AdapterRecord:
    """What is known of an adapter beside its tensors."""

    base: str
    base_sha256: str
    template_sha256: str
    probe: Probe | None = None
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class ModelSource:
    """A model as it is loaded: a folder with weights and tokenizer, and an adapter on it if any."""

    folder: Path
    adapter: Path | None = None
    reference: str = ""


def write_record(folder: Path, record: AdapterRecord) -> None:
    """Write `adapter_record.json` into an adapter folder."""
    write_atomic(folder / RECORD, json.dumps(asdict(record), indent=2) + "\n")


def read_record(folder: Path) -> AdapterRecord | None:
    """Return the record of an adapter folder; None where it has none, as an adapter from elsewhere.

    Raises: CheckpointError where it is torn, or of another version.
    """
    file = folder / RECORD
    if not file.is_file():
        return None
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        probe = values.pop("probe")
        record = AdapterRecord(**values, probe=None)
        if probe is not None:
            probe = Probe(**{name: tuple(numbers) for name, numbers in probe.items()})
            if not len(probe.ids) - 1 == len(probe.base) == len(probe.adapted) > 0:
                raise ValueError("its probe has figures for another number of tokens")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}", code="torn") from error
    if record.format_version != FORMAT_VERSION:
        raise CheckpointError(
            f"{file} has format {record.format_version}, this version reads {FORMAT_VERSION}",
            hint="use the version of triptych that wrote it",
        )
    return AdapterRecord(record.base, record.base_sha256, record.template_sha256, probe)


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter instead of a model."""
    return (folder / CONFIG).is_file()


def find_source(reference: str, resolve: Resolve, base: str | None = None) -> ModelSource:
    """Return what a reference loads: a model, or an adapter and the model it belongs to.

    The base is the one that `base` names, or else the one the adapter was trained on.

    Raises: CheckpointError where the adapter names no base, or the base found is another model.
    """
    folder = resolve(reference)
    if not is_adapter(folder):
        return ModelSource(folder, None, reference)
    named = base or base_of(folder)
    found = resolve(named)
    if is_adapter(found):
        raise CheckpointError(f"the base {named} is an adapter itself", hint="merge that one first")
    check_base(folder, found)
    return ModelSource(found.resolve(), folder.resolve(), named)


def base_of(folder: Path) -> str:
    """Return the reference of the model that an adapter folder belongs to.

    Raises: CheckpointError where it names none.
    """
    record, file = read_record(folder), folder / CONFIG
    try:
        named = record.base if record else json.loads(file.read_bytes())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{file} names no base_model_name_or_path") from error
    if not named:
        raise CheckpointError(
            f"{file} names no base_model_name_or_path", hint="name it with --base"
        )
    return str(named)


def check_base(adapter: Path, base: Path) -> None:
    """Refuse a base other than the one an adapter was trained on; without a record, accept it.

    Raises: CheckpointError (code `base`) where weights or chat template are others.
    """
    record = read_record(adapter)
    if record is None:
        return
    if weights_sha256(base) != record.base_sha256:
        raise CheckpointError(
            f"the weights of {base} are not those that {adapter} was trained on ({record.base})",
            hint="bring that base back, or name it: its weights have the sha256 "
            f"{record.base_sha256[:16]}...",
            code="base",
        )
    if template_sha256(Tokenizer.load(base)) != record.template_sha256:
        raise CheckpointError(
            f"the chat template of {base} is not the one that {adapter} was trained with",
            hint="bring the template back: the adapter knows no other form of a conversation",
            code="base",
        )


def weights_sha256(folder: Path) -> str:
    """Return the hash of a folder's weights.

    Raises: CheckpointError where it has none.
    """
    files = [folder / _GGUF] if (folder / _GGUF).is_file() else sorted(folder.glob("*.safetensors"))
    files = [file for file in files if file.name != "optimizer.safetensors"]
    if not files:
        raise CheckpointError(f"{folder} has no weights", hint="`triptych pull` one that has")
    if len(files) == 1:
        return sha256_file(files[0])
    return hashlib.sha256("".join(sha256_file(file) for file in files).encode()).hexdigest()


def template_sha256(tokenizer: Tokenizer) -> str:
    """Return the hash of a chat template, with which an adapter is trained and served."""
    return hashlib.sha256((tokenizer.chat_template or "").encode()).hexdigest()
