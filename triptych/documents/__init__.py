"""Files become blocks of text, with headings, pages and offsets, and a list of what was not read.

`read_document(path)` reads one file, `read_folder(path)` every file below a folder. Each file is
parsed in a child process of its own with limits of time, memory and expansion: a hostile or broken
file ends as a counted reason, and the next file is read all the same. Used by `lm.data` and by
`learning.company` alike. Left out: pictures and scanned pages (they are named in `unread`), and
the records of jsonl and parquet files, which `lm.data` reads.
"""

from __future__ import annotations

from triptych.documents.blocks import Block, Document, Limits, Unread
from triptych.documents.folders import FolderReading, read_folder
from triptych.documents.isolation import DocumentReader, read_document
from triptych.documents.kinds import READABLE_SUFFIXES, kind_of

__all__ = [
    "READABLE_SUFFIXES",
    "Block",
    "Document",
    "DocumentReader",
    "FolderReading",
    "Limits",
    "Unread",
    "kind_of",
    "read_document",
    "read_folder",
]
