"""How pages are made: one layout, every value escaped, nothing loaded from elsewhere.

The policy sent with each page allows this hub's own style sheet, images and the few lines of
script that follow logs, and nothing else; an uploaded card cannot widen it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from triptych.hub.server.storage.identity.sessions import form_token

if TYPE_CHECKING:
    from triptych.hub.server.http.call import Call

_FOLDER = Path(__file__).parent
_templates = Environment(
    loader=FileSystemLoader(_FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(
    template: str, call: Call, *, status: int = 200, form_targets: str = "", **values: Any
) -> HTMLResponse:
    """Return a page: a template filled for the signed-in user."""
    html = _templates.get_template(template).render(
        who=call.identity,
        form_token=values.pop("form_token", form_token(call.hub.vault, call.request.cookies)),
        here=call.request.url.path,
        **values,
    )
    return HTMLResponse(html, status, headers=_headers(form_targets))


def error_page(status: int, message: str) -> HTMLResponse:
    """Return a page with an error's status and message, the same for every caller."""
    html = _templates.get_template("error.html").render(
        who=None, form_token="", here="", status=status, message=message
    )
    return HTMLResponse(html, status, headers=_headers(""))


def static_file(name: str) -> bytes | None:
    """Return a style sheet, script or picture of the pages."""
    path = _FOLDER / "static" / name
    known = {file.name for file in (_FOLDER / "static").iterdir()}
    return path.read_bytes() if name in known else None


def size_text(size_bytes: float) -> str:
    """Write a size for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def age_text(moment: float) -> str:
    """Write how long ago something was."""
    seconds = max(0, int(time.time() - moment))
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def _headers(form_targets: str) -> dict[str, str]:
    policy = (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self';"
        f" connect-src 'self'; base-uri 'none'; form-action 'self' {form_targets};"
        " frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cache-Control": "private, no-cache",
    }


_templates.filters["size"] = size_text
_templates.filters["age"] = age_text
