"""The card of a repository: YAML on top of README.md, what it may say, what it means for search."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from triptych.hub.server import limits

MAXIMUM_BYTES = 2**20
_FRONT = re.compile(
    r"\A\ufeff?---[ \t]*\r?\n(.*?)(?:\r?\n)?^---[ \t]*\r?$", re.DOTALL | re.MULTILINE
)
_SDKS = ("gradio", "docker", "static", "streamlit")
_TEXT_FIELDS = ("license", "library_name", "pipeline_tag", "title", "emoji", "app_file")


def split_card(text: str) -> tuple[str | None, str]:
    """Return the YAML on top of a README and the text below it."""
    match = _FRONT.match(text[:MAXIMUM_BYTES])
    return (match[1], text[match.end() :].lstrip("\r\n")) if match else (None, text)


def read_card(content: bytes | None) -> dict[str, Any]:
    """Return a card's data; a broken card is an empty one."""
    if content is None:
        return {}
    front, _ = split_card(content.decode(errors="replace"))
    if front is None:
        return {}
    try:
        data = _plain(limits.read_yaml(front))
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def validate(text: str, kind: str) -> tuple[list[str], list[str]]:
    """Return what is wrong with a README's metadata, and what is merely missing."""
    front, _ = split_card(text)
    if front is None:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        data = _plain(limits.read_yaml(front))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return [f"The metadata is not valid YAML: {error}"], []
    if data is None:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(data, dict):
        return ["The metadata must be a mapping of names to values"], []
    errors = [
        f'"{name}" must be a string' for name in _TEXT_FIELDS
        if data.get(name) is not None and not isinstance(data[name], str | int | float | list)
    ]  # fmt: skip
    tags = data.get("tags")
    if tags is not None and not (
        isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)
    ):
        errors.append('"tags" must be an array of strings')
    if kind == "space" and data.get("sdk") not in (None, *_SDKS):
        errors.append(f'"sdk" must be one of [{", ".join(_SDKS)}]')
    index = data.get("model-index")
    if index is not None and not isinstance(index, list):
        errors.append('"model-index" must be an array')
    return errors, []


def tags_of(card: Mapping[str, Any], kind: str, files: list[str]) -> tuple[str, ...]:
    """Return what a repository can be found by."""
    tags: list[str] = []
    if kind == "model":
        if any(name.endswith(".safetensors") for name in files):
            tags.append("safetensors")
        if any(name.endswith(".gguf") for name in files):
            tags.append("gguf")
        tags += _texts(card.get("library_name")) + _texts(card.get("pipeline_tag"))
        tags += [f"base_model:{value}" for value in _texts(card.get("base_model"))]
        tags += [f"dataset:{value}" for value in _texts(card.get("datasets"))]
    if kind == "space":
        tags += _texts(card.get("sdk"))
    tags += _texts(card.get("tags"))
    tags += _texts(card.get("language"))
    tags += [f"license:{value}" for value in _texts(card.get("license"))]
    return tuple(dict.fromkeys(tags))


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _plain(value: Any) -> Any:
    """Turn what YAML reads as dates into text, so that a card is plain JSON."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, datetime.date | datetime.datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)
