"""A README as a page shows it: Markdown, and of HTML only what cannot act or reach outside."""

from __future__ import annotations

import hashlib
import posixpath
import threading
from collections import OrderedDict
from urllib.parse import quote, urlsplit

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup

from triptych.hub.server import limits
from triptych.hub.server.repositories.cards import split_card

_MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
_TAGS = frozenset(
    """
    a abbr b blockquote br code dd del details div dl dt em h1 h2 h3 h4 h5 h6 hr i img kbd li ol p
    pre s samp span strong sub summary sup table tbody td th thead tr ul
    """.split()  # noqa: SIM905
)


class _Rendered:
    """Keep what was laid out last: laying out costs a second at worst, a page is read often."""

    def __init__(self, most: int) -> None:
        self._kept: OrderedDict[tuple[bytes, str], Markup] = OrderedDict()
        self._most = most
        self._lock = threading.Lock()

    def __call__(self, text: str, base: str) -> Markup:
        """Return a README as safe HTML; relative links and pictures lead into the repository.

        `base` is the address of the repository at a revision, up to `/resolve/` and `/blob/`.
        """
        key = hashlib.sha256(text.encode(errors="replace")).digest(), base
        with self._lock:
            found = self._kept.get(key)
        if found is None:
            found = _render(text, base)
        with self._lock:
            self._kept[key] = found
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return found


render_card = _Rendered(most=64)


def _render(text: str, base: str) -> Markup:
    _, body = split_card(text)
    if limits.has_many_elements(body):
        notice = "This file is too large to be laid out; this is its text."
        return Markup("<p>{}</p><pre>{}</pre>").format(notice, body)

    def attribute(tag: str, name: str, value: str) -> str | None:
        if (tag, name) == ("img", "src"):
            return _inside(value, f"{base.replace('%', '/resolve/', 1)}")
        if (tag, name) == ("a", "href"):
            parts = urlsplit(value)
            if parts.scheme in ("http", "https", "mailto") or value.startswith("#"):
                return value
            return _inside(value, f"{base.replace('%', '/blob/', 1)}")
        return value

    clean = nh3.clean(
        _MARKDOWN.render(body),
        tags=set(_TAGS),
        attributes={
            "a": {"href", "title"},
            "img": {"src", "alt", "title", "width", "height"},
            "td": {"align"},
            "th": {"align"},
        },
        attribute_filter=attribute,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow ugc",
    )
    return Markup(clean)  # noqa: S704 - cleaned just now


def _inside(value: str, prefix: str) -> str | None:
    """Return the address of a file of the repository, or None for anything that leads out."""
    parts = urlsplit(value)
    if parts.scheme or parts.netloc or value.startswith("/"):
        return None
    path = posixpath.normpath(parts.path)
    if path.startswith("..") or path == ".":
        return None
    return prefix + quote(path, safe="/%")
