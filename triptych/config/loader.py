"""Resolve the configuration from its four layers and report every mistake at once.

Left out: what the settings mean; each section's own file says that.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from triptych.config import environment
from triptych.config.data import DataConfig
from triptych.config.evaluate import EvaluateConfig
from triptych.config.gateway import GatewayConfig
from triptych.config.generate import GenerateConfig
from triptych.config.hub import HubConfig
from triptych.config.model import ModelSection
from triptych.config.panels import PanelsConfig
from triptych.config.posttrain import LoraSection, PosttrainConfig
from triptych.config.runs import RunsConfig
from triptych.config.serve import ServeConfig
from triptych.config.train import TrainConfig
from triptych.errors import ConfigError

_PREFIX = "TRIPTYCH_"
#: Old names that this version still reads, with a warning; the next one does not.
_RENAMED = {("data", "twin_frac"): "leakage_frac"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config:
    """All settings, one section for each part of Triptych."""

    data: DataConfig = DataConfig()
    model: ModelSection = ModelSection()
    train: TrainConfig = TrainConfig()
    lora: LoraSection = LoraSection()
    posttrain: PosttrainConfig = PosttrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    generate: GenerateConfig = GenerateConfig()
    serve: ServeConfig = ServeConfig()
    runs: RunsConfig = RunsConfig()
    hub: HubConfig = HubConfig()
    gateway: GatewayConfig = GatewayConfig()
    panels: PanelsConfig = PanelsConfig()


def load_config(file: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Resolve defaults < TOML file < environment < `section.field=value` arguments.

    Raises: ConfigError that lists every unknown key and every bad value, each with its remedy.
    """
    values: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    layers = [*_from_file(file), *_from_environment(), *_from_overrides(overrides)]
    sections = {field.name: field.type for field in dataclasses.fields(Config)}
    for origin, section, name, value in layers:
        if section not in sections:
            problems.append(_unknown(origin, section, sections))
            continue
        name = _current_name(origin, section, name)
        fields = _field_names(section)
        if name not in fields:
            nearest = _unknown(origin, f"{section}.{name}", [f"{section}.{f}" for f in fields])
            problems.append(nearest)
            continue
        values.setdefault(section, {})[name] = value
    try:
        config = TypeAdapter(Config).validate_python(values)
    except ValidationError as error:
        problems.extend(_explain(error))
        config = Config()
    if problems:
        raise ConfigError(
            "the configuration has "
            + (f"{len(problems)} problems:\n  - " if len(problems) > 1 else "a problem: ")
            + "\n  - ".join(problems),
            hint="`triptych config show` prints every setting with its default",
        )
    return config


def to_dict(config: object) -> dict[str, Any]:
    """Turn a section or the whole configuration into plain JSON-ready values."""
    dumped: dict[str, Any] = TypeAdapter(type(config)).dump_python(config, mode="json")
    return dumped


_Setting = tuple[str, str, str, Any]


def _from_file(file: Path | None) -> Iterator[_Setting]:
    if file is None:
        return
    try:
        table = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"no configuration file {file}", hint="runnable examples are in configs/"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}", hint="see toml.io") from error
    for section, fields in table.items():
        if not isinstance(fields, Mapping):
            yield str(file), section, "", fields
            continue
        for name, value in fields.items():
            yield str(file), section, name, value


def _from_environment() -> Iterator[_Setting]:
    for key, value in sorted(environment.snapshot().items()):
        if key.startswith(_PREFIX) and "__" in key:
            section, _, name = key.removeprefix(_PREFIX).lower().partition("__")
            yield key, section, name, _literal(value)


def parse_overrides(overrides: Sequence[str]) -> Iterator[tuple[str, str, Any]]:
    """Read `section.field=value` arguments as section, field and value.

    Raises: ConfigError for one that is not written so.
    """
    for _, section, name, value in _from_overrides(overrides):
        yield section, name, value


def _from_overrides(overrides: Sequence[str]) -> Iterator[_Setting]:
    for text in overrides:
        key, equals, value = text.partition("=")
        section, dot, name = key.strip().partition(".")
        if not (equals and dot):
            raise ConfigError(
                f"cannot read the setting {text!r}", hint="write it as section.field=value"
            )
        yield text, section, name, _literal(value.strip())


def _literal(text: str) -> Any:
    """Read a value as TOML where it is TOML, else as plain text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _current_name(origin: str, section: str, name: str) -> str:
    """Return the name a setting has today, with a warning where an old one was used."""
    current = _RENAMED.get((section, name), name)
    if current != name:
        _log.warning(
            "%s.%s (from %s) is now %s.%s; the next version does not read the old name",
            *(section, name, origin, section, current),
        )
    return current


def _field_names(section: str) -> list[str]:
    default = getattr(Config(), section)
    return [field.name for field in dataclasses.fields(default)]


def _unknown(origin: str, key: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    nearest = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    advice = f"; did you mean {nearest[0]}?" if nearest else f"; known: {', '.join(known)}"
    return f"unknown setting {key} (from {origin}){advice}"


def _explain(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        yield f"{key} = {problem['input']!r}: {message}"
