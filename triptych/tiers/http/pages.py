"""Calls from the pages of other web origins, where the settings name these origins.

Only what answers questions is open to them; the routes of the Console never are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.middleware.cors import CORSMiddleware

App = Callable[[Any, Any, Any], Awaitable[None]]

PATHS = ("/v1/", "/api/query")


def allowing(origins: Sequence[str], app: App) -> App | None:
    """Return an application that lets these origins in; None where there are none."""
    if not origins:
        return None
    return CORSMiddleware(
        app, allow_origins=origins, allow_methods=("GET", "POST", "DELETE"), allow_headers=("*",),
        expose_headers=("*",), max_age=600,
    )  # fmt: skip
