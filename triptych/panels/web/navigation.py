"""The navigation of every page: for the toolkit's templates, and as HTML for Gradio's panels."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

# Three panels of one picture.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" fill="#b4532a">'
    '<path d="M1 3h3v10H1zM6 1h4v14H6zM12 3h3v10h-3z"/></svg>'
)


@dataclass(frozen=True)
class Link:
    """A page of the navigation."""

    name: str
    path: str


LINKS = (
    Link("Ask", "/ask"),
    Link("Studio", "/studio/"),
    Link("Playground", "/playground/"),
    Link("Console", "/console/"),
)


def navigation(here: str) -> str:
    """Return the navigation as HTML for a Gradio panel, with the page one is on marked."""
    links = "".join(
        f'<a href="{link.path}"'
        + (' aria-current="page"' if link.name == here else "")
        + f">{escape(link.name)}</a>"
        for link in LINKS
    )
    return (
        f'<nav class="pages" aria-label="Main"><a class="home" href="/">Triptych</a>{links}</nav>'
    )
