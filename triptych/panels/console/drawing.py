"""Draw what the gateway told as HTML tables and charts. All text from outside is escaped."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from triptych.panels.charts import line_chart
from triptych.words import short


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], empty: str) -> str:
    """Draw rows under headings; `columns` maps a field to its heading."""
    if not rows:
        return f'<p class="quiet">{escape(empty)}</p>'
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in columns.values())
    body = "".join(
        "<tr>"
        + "".join(f"<td>{escape(_cell(name, row.get(name)))}</td>" for name in columns)
        + "</tr>"
        for row in rows
    )
    return f'<div class="table"><table class="plain"><tr>{head}</tr>{body}</table></div>'


def figures(values: Mapping[str, str]) -> str:
    """Draw the few numbers that matter."""
    cells = "".join(
        f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>"
        for name, value in values.items()
    )
    return f'<div class="figures">{cells}</div>'


def overview(totals: Sequence[Mapping[str, Any]], buckets: Sequence[Mapping[str, Any]]) -> str:
    """Draw the last hour: what was asked, what failed, how long it took."""
    if not totals or not totals[0].get("requests"):
        return '<p class="quiet">No request in the last hour. Send one to the address above.</p>'
    row = totals[0]
    asked, failed = int(row["requests"]), int(row.get("failed") or 0)
    shown = {
        "requests": short(asked),
        "failed": f"{failed} ({failed / asked:.1%})",
        "tokens in": short(float(row.get("input_tokens") or 0)),
        "tokens out": short(float(row.get("output_tokens") or 0)),
    }
    if row.get("latency_s") is not None:
        shown["mean latency"] = f"{float(row['latency_s']) * 1000:,.0f} ms"
    now_s = time.time()
    points = [
        ((float(bucket["bucket"]) - now_s) / 60, float(bucket["requests"])) for bucket in buckets
    ]
    chart = line_chart(
        "Requests per minute", {"requests": points}, x_label="minutes", y_from_zero=True
    )
    return figures(shown) + chart


REQUEST_COLUMNS = {
    "created_at": "when",
    "request_id": "request",
    "tier_asked": "tier asked",
    "tier_served": "served",
    "provider": "provider",
    "upstream": "upstream",
    "model": "model",
    "outcome": "outcome",
    "status": "status",
    "fallback_reason": "fallback",
    "attempts": "attempts",
    "output_tokens": "tokens",
    "latency_s": "latency",
}


def requests(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw a page of requests, newest first."""
    return table(rows, REQUEST_COLUMNS, "No request matches.")


def _cell(name: str, value: Any) -> str:
    if value is None or value == "":
        return "–"
    if name in ("created_at", "at", "last_used_at"):
        return time.strftime("%H:%M:%S", time.localtime(float(value)))
    if name.endswith("_s") and isinstance(value, int | float):
        return f"{value * 1000:,.0f} ms"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
