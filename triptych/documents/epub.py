"""E-books in EPUB: the chapters in reading order, each an HTML page of the archive."""

from __future__ import annotations

import posixpath
import zipfile
from pathlib import Path
from urllib.parse import unquote

from lxml import etree

from triptych.documents.blocks import Builder
from triptych.documents.html import add_html

_CONTAINER = "META-INF/container.xml"


def read_epub(path: Path, builder: Builder) -> None:
    """Read every chapter of the spine; a chapter is a page."""
    with zipfile.ZipFile(path) as archive:
        rootfile = _xml(archive, _CONTAINER).find(".//{*}rootfile")
        if rootfile is None:
            builder.miss(path.name, "damaged", "the book names no content")
            return
        package = str(rootfile.get("full-path"))
        root = _xml(archive, package)
        title = root.findtext(".//{*}metadata/{*}title")
        builder.title = (title or "").strip()
        files = {
            item.get("id"): item.get("href") for item in root.iterfind(".//{*}manifest/{*}item")
        }
        for number, reference in enumerate(root.iterfind(".//{*}spine/{*}itemref"), start=1):
            href = files.get(reference.get("idref"))
            if not href:
                continue
            name = posixpath.normpath(posixpath.join(posixpath.dirname(package), unquote(href)))
            builder.page = number
            builder.end_headings()
            try:
                add_html(archive.read(name), builder, keep_title=True)
            except KeyError:
                builder.miss(f"chapter {number}", "damaged", f"{name} is missing in the book")


def _xml(archive: zipfile.ZipFile, name: str) -> etree._Element:
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    return etree.fromstring(archive.read(name), parser)
