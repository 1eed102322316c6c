"""Exports of chat and wiki programs: Slack (JSON), WhatsApp (text), Confluence (XML).

A thread of Slack is one run of messages under its channel. Left out: files that messages refer to.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from triptych.documents.blocks import Builder
from triptych.documents.decoding import decode
from triptych.documents.html import add_html

_WHATSAPP = re.compile(
    r"^\u200e?\[?(\d{1,4}[./-]\d{1,2}[./-]\d{1,4}),? "  # day
    r"(\d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?:[\s\u202f]?[APap]\.?[Mm]\.?)?)\]?"  # time
    r"(?: -)? ([^:\n]{1,80}): (.*)$"  # who: what
)
_MENTION = re.compile(r"<@([A-Z0-9]+)(?:\|[^>]*)?>")
_LINK = re.compile(r"<((?:https?|mailto)[^>|]*)(?:\|([^>]*))?>")
_MESSAGES_A_BLOCK = 12


def read_whatsapp(text: str, builder: Builder) -> bool:
    """Read a chat export; returns False where the text is no export."""
    lines = text.split("\n")
    first = [line for line in lines[:40] if line.strip()][:12]
    if len(first) < 2 or sum(bool(_WHATSAPP.match(line)) for line in first) * 2 < len(first):
        return False
    messages: list[str] = []
    day = ""
    for line in lines:
        match = _WHATSAPP.match(line)
        if match is None:
            if messages and line.strip():
                messages[-1] += f"\n{line}"
            continue
        if match[1] != day or len(messages) >= _MESSAGES_A_BLOCK:
            builder.add("message", "\n".join(messages))
            messages = []
        if match[1] != day:
            day = match[1]
            builder.heading(day, 1)
        messages.append(f"{match[3]}: {match[4]}")
    builder.add("message", "\n".join(messages))
    return True


def read_json(path: Path, builder: Builder) -> None:
    """Read a day of a Slack export; other JSON has no text of known shape."""
    values = json.loads(decode(path.read_bytes()))
    if not _is_slack(values):
        builder.miss(path.name, "unknown_shape", "JSON of an unknown shape: no text is known in it")
        return
    names = _slack_names(path.parent.parent / "users.json")
    builder.title = f"{path.parent.name}, {path.stem}"
    builder.heading(f"#{path.parent.name}", 1)
    threads: dict[str, list[str]] = defaultdict(list)
    files = 0
    for message in values:
        text = _slack_text(message, names)
        files += len(message.get("files") or [])
        if text:
            user = str(message.get("user", "") or message.get("username", ""))
            threads[str(message.get("thread_ts") or message["ts"])].append(
                f"{names.get(user, user)}: {text}"
            )
    for messages in threads.values():
        for start in range(0, len(messages), _MESSAGES_A_BLOCK):
            builder.add("message", "\n".join(messages[start : start + _MESSAGES_A_BLOCK]))
    if files:
        builder.miss(path.name, "attachment", f"{files} files of messages are not in the export")


def _is_slack(values: Any) -> bool:
    return (
        isinstance(values, list)
        and bool(values)
        and all(isinstance(value, dict) and "ts" in value for value in values)
        and any(value.get("type") == "message" for value in values)
    )


def _slack_names(file: Path) -> dict[str, str]:
    try:
        users = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(users, list):
        return {}
    return {
        str(user.get("id")): str(user.get("real_name") or user.get("name") or user.get("id"))
        for user in users
        if isinstance(user, dict)
    }


def _slack_text(message: dict[str, Any], names: dict[str, str]) -> str:
    """Return a message's words, those of its attachments and table cells included."""
    if message.get("type") != "message" or message.get("subtype") in (
        "channel_join",
        "channel_leave",
    ):
        return ""
    pieces = [str(message.get("text") or "")]
    for attachment in message.get("attachments") or []:
        if isinstance(attachment, dict):
            pieces += [str(attachment.get(key) or "") for key in ("title", "text")]
            pieces += _block_words(attachment.get("blocks"))
    if not pieces[0]:
        pieces += _block_words(message.get("blocks"))
    text = "\n".join(piece for piece in pieces if piece.strip())
    text = _MENTION.sub(lambda match: f"@{names.get(match[1], match[1])}", text)
    return _LINK.sub(lambda match: match[2] or match[1], text)


def _block_words(blocks: Any) -> list[str]:
    """Return the texts of Slack's blocks; a row of a table is a line with ` | ` between cells."""
    words: list[str] = []
    pending: list[Any] = [blocks]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += reversed(value)
        elif isinstance(value, dict):
            if value.get("type") == "table" and isinstance(value.get("rows"), list):
                for row in value["rows"]:
                    words.append(" | ".join(" ".join(_block_words(cell)) for cell in row))
                continue
            text = value.get("text")
            if isinstance(text, str):
                words.append(text)
            pending += reversed(
                [inner for inner in value.values() if isinstance(inner, dict | list)]
            )
    return words


def read_xml(path: Path, builder: Builder) -> None:
    """Read a Confluence page in its storage format, or any XML that is a web page."""
    text = decode(path.read_bytes())
    if "<ac:" not in text and "<html" not in text.lower() and "<p>" not in text:
        builder.miss(path.name, "unknown_shape", "XML of an unknown shape: no text is known in it")
        return
    macros = sorted(set(re.findall(r'<ac:structured-macro[^>]*ac:name="([^"]{1,60})"', text)))
    text = re.sub(
        r"<ac:plain-text-body>\s*<!\[CDATA\[(.*?)\]\]>\s*</ac:plain-text-body>",
        lambda match: "<pre>" + _escaped(match[1]) + "</pre>",
        text,
        flags=re.S,
    )
    add_html(text, builder)
    live = [
        name
        for name in macros
        if name not in ("code", "info", "note", "tip", "warning", "panel", "expand")
    ]
    for name in live:
        builder.miss(f"macro {name}", "macro", "what the macro shows is not in the export")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
