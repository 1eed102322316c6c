"""Draw what the gateway told as HTML tables and charts. All text from outside is escaped."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from triptych.formatting import format_count
from triptych.panels.charts import line_chart
from triptych.panels.console_gradio.tab import LABELS, REASONS

# Cells of more characters than this may break into lines; shorter ones are read at a glance.
LONG = 44


def table(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    empty: str,
    pick: str = "",
    narrow: Collection[str] = (),
    clipped: Collection[str] = (),
) -> str:
    """Draw rows under headings; `columns` maps a field to its heading.

    The cells of the column `pick` are buttons that choose their row; on a desk, those of
    `narrow` columns break into lines, and of `clipped` ones only the beginning is seen.
    """
    if not rows:
        return f'<p class="quiet">{escape(empty)}</p>'
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in columns.values())
    body = ""
    for row in rows:
        cells = (
            _td(name, row.get(name), pick=name == pick, narrow=name in narrow,
                clipped=name in clipped)
            for name in columns
        )  # fmt: skip
        body += f"<tr>{''.join(cells)}</tr>"
    label = escape(f"Table: {', '.join(columns.values())}", quote=True)
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="{label}">'
        f'<table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _td(name: str, value: Any, *, pick: bool, narrow: bool, clipped: bool) -> str:
    text = _cell(name, value)
    drawn = _picking(value) if pick else escape(text)
    if clipped:
        return f'<td class="clipped" title="{escape(text, quote=True)}">{drawn}</td>'
    if narrow:  # names break where their parts meet
        broken = re.sub("([_/])", r"\1<wbr>", escape(text))
        return f'<td class="narrow">{broken}</td>'
    return f"<td{' class=long' if len(text) > LONG and not pick else ''}>{drawn}</td>"


def _picking(value: Any) -> str:
    text = escape(str(value), quote=True)
    return f'<button type="button" class="pick" data-pick="{text}">{text}</button>'


def figures(values: Mapping[str, str]) -> str:
    """Draw the few numbers that matter."""
    cells = "".join(
        f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>"
        for name, value in values.items()
    )
    return f'<div class="figures">{cells}</div>'


def overview(row: Mapping[str, Any]) -> dict[str, str]:
    """Name the few numbers of a stretch of time in which something was asked."""
    asked, failed = int(row["requests"]), int(row.get("failures") or 0)
    shown = {
        "requests": format_count(asked),
        "failed": f"{failed} ({failed / asked:.1%})",
        "fell back": f"{int(row.get('fallbacks') or 0) / asked:.1%}",
        "tokens in": format_count(float(row.get("input_tokens") or 0)),
        "tokens out": format_count(float(row.get("output_tokens") or 0)),
        "cost": f"${int(row.get('cost_microusd') or 0) / 1e6:,.2f}",
    }
    if row.get("latency_mean_s") is not None:
        shown["mean latency"] = f"{float(row['latency_mean_s']) * 1000:,.0f} ms"
    return shown


@dataclass(frozen=True)
class Axis:
    """The place of the present on a time axis, and the axis' unit.

    Units: `now_s` is Unix time, `unit_s` the seconds of one `unit`.
    """

    now_s: float
    unit_s: float
    unit: str

    def place(self, bucket: Mapping[str, Any]) -> float:
        """Return how far from now a slice of time begins, counted in units."""
        return (float(bucket["bucket"]) - self.now_s) / self.unit_s


def over_time(buckets: Sequence[Mapping[str, Any]], axis: Axis, bucket_s: int) -> list[str]:
    """Draw requests and failures, latency, tokens and cost over time."""

    def curve(name: str, scale: float = 1.0) -> list[tuple[float, float]]:
        return [
            (axis.place(b), float(b[name] or 0) * scale) for b in buckets if b[name] is not None
        ]

    drawn: list[tuple[str, dict[str, list[tuple[float, float]]]]] = [
        (f"Requests in {_span(bucket_s)}",
         {"requests": curve("requests"), "failed": curve("failures")}),
        ("Mean latency, ms", {"all": curve("latency_mean_s", 1e3),
                              "gateway overhead": curve("overhead_mean_s", 1e3)}),
        ("Tokens", {"in": curve("input_tokens"), "out": curve("output_tokens")}),
        ("Cost, $", {"cost": curve("cost_microusd", 1e-6)}),
    ]  # fmt: skip
    return [
        line_chart(title, curves, x_label=axis.unit, y_from_zero=True) for title, curves in drawn
    ]


def share_over_time(title: str, rows: Sequence[Mapping[str, Any]], by: str, axis: Axis) -> str:
    """Draw which share of the requests each one had, in percent, over time."""
    totals: dict[float, int] = {}
    for row in rows:
        totals[row["bucket"]] = totals.get(row["bucket"], 0) + int(row["requests"])
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        share = 100 * int(row["requests"]) / totals[row["bucket"]]
        curves.setdefault(str(row[by] or "not answered"), []).append((axis.place(row), share))
    return line_chart(f"{title}, %", curves, x_label=axis.unit, y_from_zero=True)


def summed(rows: Sequence[Mapping[str, Any]], by: str) -> list[dict[str, Any]]:
    """Add up the requests of each one over all slices of time."""
    found: dict[Any, int] = {}
    for row in rows:
        found[row[by]] = found.get(row[by], 0) + int(row["requests"])
    return [{by: name, "requests": requests} for name, requests in found.items()]


def _span(seconds: int) -> str:
    return {60: "a minute", 3600: "an hour", 86_400: "a day"}.get(seconds, f"{seconds // 3600} h")


REQUEST_COLUMNS = {
    "created_at": "when",
    "request_id": "request",
    "tier": "tier",
    "by": "answered by",
    "model": "model",
    "ended": "outcome",
    "fallback_reason": "fallback",
    "attempts": "tries",
    "output_tokens": "tokens",
    "latency_s": "latency",
}


def requests(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw a page of requests, newest first."""
    shown = [{**row, **_in_short(row)} for row in rows]
    empty = "No request matches these filters."
    narrow = ("created_at", "tier", "by", "model", "ended", "fallback_reason")
    clipped = ("request_id",)
    return table(shown, REQUEST_COLUMNS, empty, pick="request_id", narrow=narrow, clipped=clipped)


def _in_short(row: Mapping[str, Any]) -> dict[str, str]:
    """Return one cell each for the tier, the provider and the outcome."""
    asked, served = row.get("tier_asked"), row.get("tier_served")
    by = dict.fromkeys(str(row[name]) for name in ("upstream", "provider") if row.get(name))
    return {
        "tier": str(asked) if served == asked else f"{asked} → {served or 'not answered'}",
        "by": ", ".join(by),
        "ended": f"{row['outcome']} {row['status']}",
    }


def shares(title: str, rows: Sequence[Mapping[str, Any]], by: str) -> str:
    """Draw how requests divide, as bars with their share beside them."""
    total = sum(int(row["requests"]) for row in rows)
    if not total:
        return ""
    ordered = sorted(rows, key=lambda row: -int(row["requests"]))
    bars = "".join(
        f"<tr><th scope='row'>{escape(str(row[by] or 'not answered'))}</th>"
        f"<td class='wide'><div class='bar'><i style='width:{int(row['requests']) / total:.1%}'>"
        f"</i></div></td><td>{int(row['requests']) / total:.0%}</td></tr>"
        for row in ordered
    )
    return f'<table class="plain"><caption>{escape(title)}</caption><tbody>{bars}</tbody></table>'


def waterfall(request: Mapping[str, Any]) -> str:
    """Draw one request: what was decided and why, and every attempt on one time axis."""
    tries: Sequence[Mapping[str, Any]] = request["tries"]
    start = float(request["created_at"])
    whole = max(
        float(request.get("latency_s") or 0.0),
        *(float(t["created_at"]) - start + float(t["latency_s"] or 0.0) for t in tries),
        1e-3,
    )
    rows = "".join(_attempt(t, start, whole) for t in tries)
    flags = ", ".join(f"{key} = {value}" for key, value in (request.get("flags") or {}).items())
    facts = {
        "asked": f"{request['model_asked']} ({request['tier_asked']})",
        "served": f"{request.get('tier_served') or '–'} by {request.get('model') or '–'}",
        "revision": request.get("revision"),
        "reason": REASONS.get(str(request.get("reason")), request.get("reason")),
        "fell back because": request.get("fallback_reason"),
        "outcome": f"{request['outcome']}, status {request['status']}",
        "error": request.get("error_code"),
        "company": request.get("company_id"),
        "user": request.get("user_id"),
        "key": request.get("key_id"),
        "tokens": f"{request.get('input_tokens') or 0} in, {request.get('output_tokens') or 0} out",
        "latency": _cell("latency_s", request.get("latency_s")),
        "until the first token": _cell("ttft_s", request.get("ttft_s")),
        "gateway overhead": _cell("overhead_s", request.get("overhead_s")),
        "consent": request.get("consent"),
        f"flags, version {request.get('flags_version')}": flags,
    }
    listed = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>"
        for name, value in facts.items()
        if value not in (None, "", "–")
    )
    attempts = f'<div class="waterfall">{rows}</div>' if tries else (
        '<p class="quiet">No provider was called.</p>'
    )  # fmt: skip
    name = escape(str(request["request_id"]))
    return f'<section><h2>{name}</h2>{attempts}<dl class="facts">{listed}</dl></section>'


def _attempt(tried: Mapping[str, Any], start: float, whole: float) -> str:
    latency = float(tried["latency_s"] or 0.0)
    left = min(0.98, max(0.0, float(tried["created_at"]) - start) / whole)
    width = max(0.01, min(1 - left, latency / whole))
    said = f"{tried['number']}. {tried['upstream']}: {tried['outcome']}"
    if tried.get("error_code"):
        said += f" ({tried['error_code']})"
    state = "good" if tried["outcome"] == "ok" else "bad"
    return (
        f"<div><span>{escape(said)}</span><div class='track'>"
        f"<i class='{state}' style='margin-left:{left:.2%};width:{width:.2%}'></i></div>"
        f"<span>{latency * 1000:,.0f} ms</span></div>"
    )


def audit(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw who did what."""
    columns = {
        "sequence": "no.",
        "created_at": "when",
        "actor": "who",
        "action": "did",
        "subject": "to",
        "before": "before",
        "after": "after",
    }
    return table([_brief(row) for row in rows], columns, "Nothing was changed yet.")


def _brief(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "before": change(row["before"]), "after": change(row["after"])}


def change(value: Any) -> str:
    """Write one side of an audited change in a few words."""
    if isinstance(value, Mapping):
        parts = (f"{name}: {_value(inner)}" for name, inner in value.items())
        return ", ".join(parts)[:300]
    return "" if value is None else str(value)[:300]


def _value(value: Any) -> str:
    if isinstance(value, Mapping) and "defaultVariant" in value:
        return str(value["defaultVariant"]) + (" with a rule" if value.get("targeting") else "")
    return str(value)


def feedback(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw what people said, newest first."""
    columns = {
        "feedback_id": "feedback", "created_at": "when", "kind": "kind", "label": "label",
        "value": "said", "author": "by", "company_id": "company", "request_id": "request",
        "model": "model",
    }  # fmt: skip
    labels = [LABELS.get(row.get("label", ""), row.get("label")) for row in rows]
    shown = [
        {**row, "value": change(row["value"]), "label": label}
        for row, label in zip(rows, labels, strict=True)
    ]
    return table(shown, columns, "No feedback yet. The Playground asks for it.", pick="feedback_id")


def beside(kept: Mapping[str, Any], said: Mapping[str, Any]) -> str:
    """Draw the question, the answer and the correction, side by side."""
    asked = kept["messages"][-1].get("content") if kept["messages"] else "not kept"
    columns = {"asked": asked, "answered": kept["answer"], "said about it": change(said["value"])}
    cells = "".join(
        f'<div><h3>{escape(name)}</h3><div class="sample">{escape(str(text))}</div></div>'
        for name, text in columns.items()
    )
    return f'<h2>{escape(str(said["kind"]))}</h2><div class="beside">{cells}</div>'


def conversation(kept: Mapping[str, Any]) -> str:
    """Draw what was asked and answered, as text."""
    said = [(str(m.get("role", "")), m.get("content")) for m in kept["messages"]]
    said.append(("answer", kept["answer"]))
    return "".join(
        f'<section><h2>{escape(role)}</h2><div class="sample">{escape(str(text))}</div></section>'
        for role, text in said
    )


def _cell(name: str, value: Any) -> str:
    if value is None or value == "":
        return "–"
    if name.endswith("_at"):
        return _when(float(value))
    if name.endswith("_s") and isinstance(value, int | float):
        return f"{value * 1000:,.0f} ms"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "–"
    return str(value)


def _when(at: float) -> str:
    today = time.strftime("%F") == time.strftime("%F", time.localtime(at))
    return time.strftime("%H:%M:%S" if today else "%F %H:%M", time.localtime(at))


def facts(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> str:
    """Draw some rows as lists of facts, side by side."""
    lists = "".join(
        "<dl class='facts'>"
        + "".join(
            f"<dt>{escape(heading)}</dt><dd>{escape(_cell(name, row.get(name)))}</dd>"
            for name, heading in names.items()
        )
        + "</dl>"
        for row in rows
    )
    return f'<div class="beside">{lists}</div>'


CSS = """
table.plain th[scope=row] { font-weight: 400; white-space: nowrap; }
table.plain td.wide { width: 60%; }
table.plain caption { text-align: left; font-weight: 600; padding: .3rem 0; }
table.plain, table.plain tr { border: 0 !important; }
.block:has(> .html-container:empty), .block:has(> .html-container > .prose:empty),
.block:has(> .prose:empty) { display: none; }
button[role=tab] { padding-inline: .6rem !important; }
.switches .form > * { flex: 1 1 13rem !important; min-width: 13rem !important; }
.signed { align-items: center; min-height: 0; }
.act-buttons { flex-wrap: wrap; gap: .5rem !important; align-items: flex-start; }
.act-buttons > * { flex: 0 0 auto !important; width: auto !important;
                   min-width: max-content !important; }
.signed > * { min-width: 0 !important; } .signed button { flex: 0 0 auto !important; }
.prose h2 { font-size: 1.1rem; margin: .6rem 0 .2rem; }
table.plain td { white-space: nowrap; }
@media (min-width: 900px) {
  table.plain td.narrow { white-space: normal; max-width: 9rem; overflow-wrap: break-word; }
  table.plain td.clipped { max-width: 7.5rem; overflow: hidden; text-overflow: ellipsis; }
  td.clipped button.pick { max-width: 100%; overflow: hidden; text-overflow: ellipsis; }
}
table.plain td.long { min-width: 22rem; white-space: normal; overflow-wrap: anywhere; }
button.act { width: auto !important; align-self: flex-start; flex-grow: 0 !important; }
button.pick { font: inherit; color: inherit; background: none; border: 0; padding: 0;
              box-shadow: none; text-decoration: underline; cursor: pointer; text-align: left; }
.trouble { border-left: 3px solid #b3261e; padding: .3rem .8rem; }
.asking, .attention { border-left: 3px solid #b4532a; padding: .3rem .8rem; }
.beside { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); }
.waterfall > div { display: grid; grid-template-columns: minmax(9rem, 16rem) 1fr 5rem; gap: .6rem;
                   align-items: center; padding: .15rem 0; }
.waterfall .track { height: .8rem; background: var(--border-color-primary); border-radius: .2rem; }
.waterfall i { display: block; height: 100%; border-radius: .2rem; min-width: 3px; }
.waterfall i.good { background: #2f7d32; }
.waterfall i.bad { background: #b3261e; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dl.facts dt { color: var(--body-text-color-subdued); } dl.facts dd { margin: 0;
              overflow-wrap: anywhere; }
@media (max-width: 480px) { .waterfall > div { grid-template-columns: 1fr; }
                            dl.facts { grid-template-columns: 1fr; } }
"""
