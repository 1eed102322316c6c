"""HTML and XML become blocks: headings, paragraphs, lists, tables, code; no script, no markup.

The walk is a loop over start and end events, not a recursion, so depth costs nothing. Left out:
text that only a script would write.
"""

from __future__ import annotations

from pathlib import Path

from lxml import etree
from lxml import html as lxml_html

from triptych.documents.blocks import Builder

_SKIPPED = frozenset(
    """
    script style noscript template svg math iframe object embed nav form button select textarea
    head ac:parameter ri:attachment ri:page ri:user
    """.split()  # noqa: SIM905
)
_BLOCKS = frozenset(
    """
    p div section article main header footer aside blockquote figure figcaption address details
    summary dl dt dd ul ol li table caption tr pre h1 h2 h3 h4 h5 h6 body hr center fieldset
    ac:rich-text-body ac:task ac:task-body
    """.split()  # noqa: SIM905
)
_PICTURES = frozenset(("img", "picture", "video", "audio", "canvas", "ac:image"))


def read_html(path: Path, builder: Builder) -> None:
    """Read a page; its title is the document's title."""
    add_html(path.read_bytes(), builder)


def add_html(source: bytes | str, builder: Builder, *, keep_title: bool = False) -> None:
    """Add the blocks of an HTML text; with `keep_title` its own title is not looked for."""
    encoding = _encoding(source) if isinstance(source, bytes) else None
    parser = lxml_html.HTMLParser(
        no_network=True, remove_comments=True, remove_pis=True, huge_tree=False, encoding=encoding
    )
    if isinstance(source, str):
        # Surrogates have no bytes; lxml takes bytes only when the encoding is declared by us.
        source = source.encode("utf-8", "replace")
        parser = lxml_html.HTMLParser(
            no_network=True, remove_comments=True, remove_pis=True, encoding="utf-8"
        )
    if not source.strip():
        return
    try:
        root = lxml_html.document_fromstring(source, parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError, ValueError):
        return
    if not keep_title and (title := root.findtext(".//title")):
        builder.title = " ".join(title.split())
    _Walk(builder).walk(root)


def _encoding(source: bytes) -> str | None:
    """Return the encoding where the page does not declare one and is UTF-8; else the parser's."""
    head = source[:4096].lower()
    if b"charset" in head or source[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return None
    try:
        source.decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


class _Walk:
    """Collect words until a block ends, then hand them over under the right kind."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.words: list[str] = []
        self.items: list[str] = []
        self.rows: list[list[str]] = []
        self.lists = self.tables = self.pre = self.pictures = 0

    def walk(self, root: etree._Element) -> None:
        skipped = 0
        for event, element in etree.iterwalk(root, events=("start", "end")):
            tag = element.tag if isinstance(element.tag, str) else ""
            tag = tag.lower()
            hidden = tag in _SKIPPED or element.get("hidden") is not None
            if event == "start":
                skipped += hidden
                if not skipped:
                    self._start(tag, element)
            else:
                if not skipped:
                    self._end(tag)
                skipped -= hidden
                if not skipped and element.tail:
                    self.words.append(element.tail)
        self._flush("paragraph")
        if self.pictures:
            self.builder.miss("pictures", "pictures", f"{self.pictures} pictures or videos")

    def _start(self, tag: str, element: etree._Element) -> None:
        if tag in _BLOCKS and not (self.tables and tag not in ("table", "tr")):
            self._flush("list" if self.lists else "paragraph")
        if tag in ("ul", "ol"):
            self.lists += 1
        elif tag == "table":
            self.tables += 1
        elif tag == "tr" and self.tables:
            self.rows.append([])
        elif tag in ("td", "th") and self.tables:
            self.words = []
        elif tag == "pre":
            self.pre += 1
        elif tag == "br":
            self.words.append("\n")
        elif tag in _PICTURES:
            self.pictures += 1
            self.words.append(element.get("alt") or "")
        if element.text:
            self.words.append(element.text)

    def _end(self, tag: str) -> None:
        if tag in ("td", "th") and self.tables and self.rows:
            self.rows[-1].append("".join(self.words))
            self.words = []
        elif tag == "table" and self.tables:
            self.tables -= 1
            if not self.tables:
                self.builder.table(self.rows)
                self.rows, self.words = [], []
        elif self.tables:
            if tag in _BLOCKS:
                self.words.append(" ")
        elif tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
            self.builder.heading("".join(self.words), int(tag[1]))
            self.words = []
        elif tag == "pre":
            self.pre = max(0, self.pre - 1)
            self._flush("code")
        elif tag in ("ul", "ol"):
            self._flush("list")
            self.lists = max(0, self.lists - 1)
            if not self.lists:
                self.builder.add("list", "\n".join(self.items))
                self.items = []
        elif tag in _BLOCKS:
            self._flush("list" if self.lists else "paragraph")

    def _flush(self, kind: str) -> None:
        text = "".join(self.words)
        self.words = []
        if not text.strip():
            return
        if kind == "list":
            self.items.append("- " + " ".join(text.split()))
        elif kind == "code" or self.pre:
            self.builder.add("code", text)
        else:
            self.builder.add("paragraph", _folded(text))


def _folded(text: str) -> str:
    """Return text on one line: the line breaks of a page's source mean nothing."""
    return " ".join(text.split())
