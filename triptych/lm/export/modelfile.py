"""Write an Ollama Modelfile whose template says what the model's own chat template says.

Ollama has a template language of its own, so the chat template is rendered with marks in place
of role and content, and what stands around the marks is written down in that language.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from triptych.durable import write_atomic
from triptych.errors import ExportError
from triptych.lm.model.tokenizer import Tokenizer

_ROLES = ("system", "user", "assistant")


class TurnFormat(NamedTuple):
    """How a chat template writes one turn, and how it asks for the answer."""

    before_role: str
    before_content: str
    after_content: str
    ask: str


def write_modelfile(folder: Path, gguf: Path, *, context_length: int) -> Path:
    """Write `Modelfile` beside a GGUF file made of the folder.

    Raises: ExportError for a chat template that treats turns differently by more than their role.
    """
    tokenizer = Tokenizer.load(folder)
    lines = [f"FROM ./{gguf.name}", f"PARAMETER num_ctx {context_length}"]
    if tokenizer.chat_template is None:
        lines.append('TEMPLATE """{{ .Prompt }}"""')
    else:
        turn = read_turn_format(tokenizer)
        lines.append(f'TEMPLATE """{go_template(turn)}"""')
        stop = turn.after_content.strip()
        if stop:
            lines.append(f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}")
    path = gguf.with_name("Modelfile")
    write_atomic(path, "\n".join(lines) + "\n")
    return path


def read_turn_format(tokenizer: Tokenizer) -> TurnFormat:
    """Find how the chat template writes a turn, and check that it writes every turn that way.

    Raises: ExportError where it does not.
    """
    mark = "\ue001content\ue001"
    whole = tokenizer.render_chat([{"role": "user", "content": mark}])
    asked = tokenizer.render_chat([{"role": "user", "content": mark}], add_generation_prompt=True)
    head, _, after_content = whole.partition(mark)
    before_role, found, before_content = head.partition("user")
    turn = TurnFormat(before_role, before_content, after_content, asked.removeprefix(whole))
    chat = [{"role": role, "content": f"words of {role}"} for role in (*_ROLES, "user")]
    rendered = tokenizer.render_chat(chat, add_generation_prompt=True)
    if not found or not asked.startswith(whole) or rendered != spell(turn, chat):
        raise ExportError(
            "the chat template is too free for a Modelfile",
            hint="the GGUF file holds it; write the Modelfile's TEMPLATE by hand",
        )
    return turn


def spell(turn: TurnFormat, messages: list[dict[str, str]]) -> str:
    """Write a chat the way the turn format says."""
    turns = (
        f"{turn.before_role}{message['role']}{turn.before_content}"
        f"{message['content']}{turn.after_content}"
        for message in messages
    )
    return "".join(turns) + turn.ask


def go_template(turn: TurnFormat) -> str:
    """Write the turn format in Ollama's template language."""
    one = (
        f"{turn.before_role}{{{{ .Role }}}}{turn.before_content}"
        f"{{{{ .Content }}}}{turn.after_content}"
    )
    return f"{{{{ range .Messages }}}}{one}{{{{ end }}}}{turn.ask}"
