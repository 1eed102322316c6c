"""How pages are made: one layout, every value escaped, nothing loaded from elsewhere."""

from __future__ import annotations

from html import escape

from starlette.responses import HTMLResponse


def error_page(status: int, message: str) -> HTMLResponse:
    """Say what went wrong."""
    return HTMLResponse(f"<!doctype html><title>{status}</title><p>{escape(message)}</p>", status)
