"""The Modelfile says what the chat template says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from triptych.errors import ExportError
from triptych.lm.export.modelfile import go_template, read_turn_format, write_modelfile
from triptych.lm.model.tokenizer import Tokenizer

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "What now?"},
]


def render_go(template: str, messages: list[dict[str, str]]) -> str:
    """Evaluate the few words of Ollama's language that a Modelfile of ours uses."""
    match = re.fullmatch(r"\{\{ range \.Messages \}\}(.*)\{\{ end \}\}(.*)", template, re.S)
    assert match
    turns = (
        match[1].replace("{{ .Role }}", turn["role"]).replace("{{ .Content }}", turn["content"])
        for turn in messages
    )
    return "".join(turns) + match[2]


def test_ollamas_template_renders_what_the_chat_template_renders(qwen3_folder: Path) -> None:
    tokenizer = Tokenizer.load(qwen3_folder)
    template = go_template(read_turn_format(tokenizer))
    assert render_go(template, CHAT) == tokenizer.render_chat(CHAT, add_generation_prompt=True)


def test_the_modelfile_names_the_file_the_context_and_the_end(
    qwen3_folder: Path, tmp_path: Path
) -> None:
    path = write_modelfile(qwen3_folder, tmp_path / "m.gguf", context_length=512)
    lines = path.read_text().splitlines()
    assert lines[0] == "FROM ./m.gguf"
    assert "PARAMETER num_ctx 512" in lines
    assert 'PARAMETER stop "<|im_end|>"' in lines


def test_a_template_that_is_not_one_form_per_turn_is_refused(qwen3_folder: Path) -> None:
    tokenizer = Tokenizer.load(qwen3_folder)
    tokenizer.settings = {
        **tokenizer.settings,
        "chat_template": "{% for m in messages %}{% if m.role == 'user' %}Q: {{ m.content }}\n"
        "{% else %}A: {{ m.content }}\n{% endif %}{% endfor %}",
    }
    with pytest.raises(ExportError, match="too free"):
        read_turn_format(tokenizer)
