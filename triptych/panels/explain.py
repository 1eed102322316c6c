"""Glossary terms and errors as HTML for Gradio's pages; the style is in `theme`.

A term explains itself on hover, on keyboard focus and on touch, which focuses it.
"""

from __future__ import annotations

import re
from html import escape

from triptych.errors import TriptychError
from triptych.panels.web.glossary import TERMS

# The longest first, so that "validation loss" is not explained as "loss".
_KNOWN = re.compile(
    r"\b(" + "|".join(sorted(map(re.escape, TERMS), key=len, reverse=True)) + r")(?=s?\b)"
)


def term(name: str, shown: str = "") -> str:
    """Return a term of the glossary that explains itself; `shown` is the text on the page."""
    return (
        f'<span class="term" tabindex="0">{escape(shown or name)}'
        f'<span role="tooltip">{escape(TERMS[name])}</span></span>'
    )


def explained(text: str) -> str:
    """Return a text as HTML in which the first term of the glossary explains itself."""
    found = _KNOWN.search(text)
    if found is None:
        return escape(text)
    before, after = escape(text[: found.start()]), escape(text[found.end() :])
    return f"{before}{term(found[1])}{after}"


def words_of(text: str) -> str:
    """Return the glossary's terms in a text, each explaining itself; empty where there are none."""
    found = dict.fromkeys(match[1] for match in _KNOWN.finditer(text))
    terms = " · ".join(term(name) for name in found)
    return f'<p class="quiet">Words: {terms}</p>' if terms else ""


def trouble(error: TriptychError) -> str:
    """Return an error that looks like one: marked, read out at once, with what to do next."""
    message = error.message[:1].upper() + error.message[1:]
    stop = "" if message.endswith((".", "!", "?")) else "."
    hint = f" {escape(error.hint[:1].upper() + error.hint[1:])}" if error.hint else ""
    return f'<p class="status bad" role="alert"><b>✗ {escape(message)}{stop}</b>{hint}</p>'
