"""Read plain text of any size as documents: the whole file, each line, or each paragraph.

Left out: encodings (decoding.py), and files that are more than text (`triptych.documents`).
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from triptych.config.data import DataConfig
from triptych.lm.data.document import Document, Reading, cut_text, is_unicode
from triptych.lm.data.readers.decoding import decoded

_SEPARATORS = {"file": None, "line": "\n", "paragraph": "\n\n"}


def read_text(
    stream: io.BufferedReader, name: str, config: DataConfig, reading: Reading
) -> Iterator[Document]:
    """Yield the documents of a text file; a part with broken UTF-8 is dropped."""
    units = _units(decoded(stream), _SEPARATORS[config.text_documents], config.max_document_chars)
    for number, (document, is_whole, text) in enumerate(units):
        if not text.strip():
            continue
        group = name if config.text_documents == "file" else f"{name}#{document}"
        source = group if is_whole else f"{name}#part{number}"
        if is_unicode(text):
            yield Document(text, source, config.licence, group)
        else:
            reading.drop("invalid_utf8", source, len(text))


def _units(
    blocks: Iterator[str], separator: str | None, max_chars: int
) -> Iterator[tuple[int, bool, str]]:
    """Yield (document number, whether it is whole, text), cutting what is too long."""
    number, is_whole, pending = 0, True, ""
    for block in blocks:
        pending += block
        if separator is not None:
            *complete, pending = pending.split(separator)
            for text in complete:
                yield number, is_whole, text
                number, is_whole = number + 1, True
        while len(pending) > max_chars:
            cut = cut_text(pending, max_chars)
            yield number, False, pending[:cut]
            is_whole, pending = False, pending[cut:]
    yield number, is_whole, pending
