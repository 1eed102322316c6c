"""What a Space's address answers while nothing serves there."""

from __future__ import annotations

from html import escape

from starlette.responses import HTMLResponse, JSONResponse, Response

from triptych.hub.server.repository import Repository
from triptych.hub.server.spaces.stages import UNDER_WAY, WAKES_ON_REQUEST, Runtime, Stage

RETRY_S = 2
_WORDS = {
    Stage.BUILDING: "is being built",
    Stage.APP_STARTING: "is starting",
    Stage.SLEEPING: "is waking up",
    Stage.STOPPED: "is starting",
    Stage.PAUSED: "is paused; its owner can restart it",
    Stage.NO_APP_FILE: "has no app yet",
    Stage.CONFIG_ERROR: "cannot start: its configuration is wrong",
    Stage.BUILD_ERROR: "could not be built",
    Stage.RUNTIME_ERROR: "stopped with an error",
}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>{refresh}
<meta name="viewport" content="width=device-width">
<style>body{{font:16px system-ui,sans-serif;display:grid;place-content:center;min-height:90vh;
text-align:center;color:#333;background:#fff}}
@media(prefers-color-scheme:dark){{body{{color:#ddd;background:#111}}}}</style></head>
<body><h1>{title}</h1><p>This Space {words}.</p></body></html>
"""


def waiting_page(repository: Repository, runtime: Runtime, *, page: bool) -> Response:
    """Answer 503 with the stage, and with when to try again if that can help."""
    words = _WORDS.get(runtime.stage, "is not available")
    soon = runtime.stage in UNDER_WAY | WAKES_ON_REQUEST
    headers = {"Cache-Control": "no-store"}
    if soon:
        headers["Retry-After"] = str(RETRY_S)
    if not page:
        body = {"error": f"This Space {words}", "stage": runtime.stage.value}
        return JSONResponse(body, 503, headers=headers)
    refresh = f'<meta http-equiv="refresh" content="{RETRY_S}">' if soon else ""
    text = _PAGE.format(title=escape(repository.repo_id), words=words, refresh=refresh)
    headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
    return HTMLResponse(text, 503, headers=headers)
