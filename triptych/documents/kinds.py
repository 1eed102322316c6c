"""Which reader a file gets: by its first bytes where they are certain, else by its suffix.

Left out: the readers themselves, which are imported only in the child process that needs them.
"""

from __future__ import annotations

from pathlib import Path, PurePath

_CODE = """
    py pyi js jsx ts tsx java kt kts go rs c h cc cpp hpp cs swift rb php pl lua r jl scala sh bash
    zsh ps1 sql css scss less vue svelte dart ex exs erl hs clj lisp el ml fs vb tf hcl proto
    graphql gradle cmake toml ini cfg conf properties yaml yml
""".split()  # noqa: SIM905
_SUFFIXES: dict[str, str] = {
    **dict.fromkeys((".txt", ".text", ".log"), "text"),
    **dict.fromkeys((".md", ".markdown", ".mdx", ".rst", ".qmd"), "markdown"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    ".pdf": "pdf",
    ".docx": "docx",
    ".docm": "docx",
    ".pptx": "pptx",
    ".pptm": "pptx",
    **dict.fromkeys((".xlsx", ".xlsm", ".xls", ".xlsb", ".ods"), "workbook"),
    **dict.fromkeys((".csv", ".tsv"), "csv"),
    ".epub": "epub",
    ".ipynb": "notebook",
    **dict.fromkeys((".srt", ".vtt"), "subtitles"),
    ".eml": "mail",
    ".mbox": "mailbox",
    ".odt": "odt",
    ".json": "json",
    ".xml": "xml",
    **{f".{suffix}": "code" for suffix in _CODE},
}
READABLE_SUFFIXES = frozenset(_SUFFIXES)
_NAMES = {"dockerfile": "code", "makefile": "code", "readme": "text", "license": "text"}
# Formats people have and this program does not read: what to do instead.
ADVICE: dict[str, str] = {
    ".doc": "save it as .docx",
    ".ppt": "save it as .pptx",
    ".rtf": "save it as .docx",
    ".pages": "export it as .docx or .pdf",
    ".key": "export it as .pptx or .pdf",
    ".numbers": "export it as .xlsx",
    ".msg": "save it as .eml",
    ".pst": "export it as .mbox",
    ".zip": "unpack it first",
    ".tar": "unpack it first",
    ".gz": "unpack it first",
    ".7z": "unpack it first",
}


def kind_of(path: Path | PurePath, start: bytes = b"") -> str:
    """Return the kind of a file, `unknown` where no reader fits.

    `start` is the file's first kilobyte; a PDF is one whatever its name.
    """
    if start.lstrip()[:5] == b"%PDF-":
        return "pdf"
    name = path.name.lower()
    kind = _SUFFIXES.get(path.suffix.lower()) or _NAMES.get(name) or _NAMES.get(path.stem.lower())
    if kind in ("docx", "pptx", "epub", "odt") and start and start[:2] != b"PK":
        # A password turns an office file into an OLE container.
        return "protected" if start[:4] == b"\xd0\xcf\x11\xe0" else "damaged"
    if kind is None and start and start.lstrip()[:1] == b"<" and b"<html" in start.lower():
        return "html"
    return kind or "unknown"
