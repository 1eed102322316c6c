"""Documents of a company, made from Markdown."""

from __future__ import annotations

import hashlib

from triptych.documents import Document, Limits
from triptych.documents.blocks import Builder
from triptych.documents.texts import add_markdown


def document(name: str, text: str) -> Document:
    builder = Builder(Limits())
    add_markdown(text, builder)
    return Document(
        name, builder.title or name, "markdown", hashlib.sha256(text.encode()).hexdigest(),
        len(text), builder.text, tuple(builder.blocks), (),
    )  # fmt: skip
