"""Draw answers, figures, tokens, votes and the visit as HTML. All model output is escaped text."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from html import escape

from triptych.errors import TriptychError
from triptych.lm.generate.engine import Score, Token
from triptych.panels.explain import term
from triptych.panels.playground.comparison import Column, Comparison
from triptych.panels.playground.experiments import Experiment, Findings
from triptych.panels.playground.votes import Verdict, WinRate

LETTERS = "ABCD"
TOKENS_DRAWN = 800
WORDS_SHOWN = 60
ENDED = {"stop": "ended by itself", "length": "length limit reached", "cancelled": "stopped"}


def answers(comparison: Comparison, verdict: Verdict | None = None) -> str:
    """Draw the columns side by side; while names are hidden, so is all that would tell them."""
    best = verdict if isinstance(verdict, int) else -1
    cells = [
        _answer(column, index, comparison.hidden, best == index)
        for index, column in enumerate(comparison.columns)
    ]
    return (
        f'<div class="answers of{len(cells)}" data-comparison="{comparison.comparison_id}">'
        f"{''.join(cells)}</div>"
    )


def _answer(column: Column, index: int, hidden: bool, best: bool) -> str:
    entry = column.entry
    name = f"Answer {LETTERS[index]}" if hidden else entry.label
    mark = '<span class="best">your choice</span>' if best else ""
    state = "failed" if column.failed else "done" if column.done else "writing"
    shown = ENDED.get(column.note, column.note)
    if column.failed:
        text = f'<p class="refused" role="alert">{escape(shown)}</p>'
    else:
        caret = "" if column.done else '<b class="caret" aria-hidden="true"></b>'
        between = "\n\n" if entry.chat else ""
        text = f"<i>{escape(entry.prompt)}{between}</i>{_shown(column.text)}{caret}"
    foot = "" if hidden else _figures(column)
    note = "" if column.failed else f'<span class="note">{escape(shown)}</span>'
    return (
        f'<section class="answer {state}{" chosen" if best else ""}" aria-label="{escape(name)}" '
        f'data-done="{str(column.done).lower()}">'
        f'<h3><span class="letter" aria-hidden="true">{LETTERS[index]}</span>'
        f"<span>{escape(name)}</span>{mark}</h3>"
        f'<div class="text">{text}</div><div class="foot">{foot}{note}</div></section>'
    )


def _shown(text: str) -> str:
    """Return an answer as HTML; one of white space alone with a sign for each character."""
    if text.strip() or not text:
        return escape(text)
    signs = text.replace(" ", "␣").replace("\t", "⇥").replace("\n", "⏎\n")
    return f'{escape(signs)}<span class="quiet"> ({len(text)} white-space characters)</span>'


def _figures(column: Column) -> str:
    figures = []
    if column.tok_per_s is not None:
        figures.append(("tokens/s", f"{column.tok_per_s:,.0f}"))
    if column.ttft_s is not None:
        figures.append(("to the first", f"{column.ttft_s * 1000:,.0f} ms"))
    if column.output_tokens:
        figures.append(("tokens", f"{column.input_tokens} in, {column.output_tokens} out"))
    drawn = "".join(f"<div><b>{value}</b><span>{words}</span></div>" for words, value in figures)
    origin = column.origin
    parts = [origin.get("engine", ""), origin.get("provider", "")]
    if origin.get("tier"):
        parts.append(f"tier {origin['tier']}, {origin.get('model', '')}")
    if origin.get("revision"):
        parts.append(f"revision {origin['revision'][:12]}")
    about = " · ".join(part for part in parts if part)
    return f'<div class="figures">{drawn}</div><span>{escape(about)}</span>'


def tokens(name: str, score: Score) -> str:
    """Draw a text token by token: the redder, the less the model expected it."""
    drawn = score.tokens[:TOKENS_DRAWN]
    cut = len(score.tokens) - len(drawn)
    left_out = f'<p class="quiet">{cut:,} further tokens are not drawn.</p>' if cut else ""
    return (
        f'<section class="scored"><h3>{escape(name)}</h3><div class="figures">'
        f"<div><b>{score.perplexity:,.1f}</b><span>{term('perplexity')}</span></div>"
        f"<div><b>{score.bits_per_byte:.3f}</b><span>{term('bits per byte')}</span></div>"
        f"<div><b>{score.scored_tokens:,}</b><span>tokens</span></div></div>"
        f'<div class="tokens">{"".join(map(_token, drawn))}</div>{left_out}</section>'
    )


def not_scored(name: str, error: TriptychError) -> str:
    """Draw why there are no probabilities of a model."""
    return f'<section class="scored"><h3>{escape(name)}</h3>{complaint(error)}</section>'


def _token(token: Token) -> str:
    """Draw one token; what else could have stood there appears on hover, touch and focus."""
    if not math.isfinite(token.logprob):
        return f'<span class="tok">{_visible(token.text)}</span>'
    shade = min(0.75, -token.logprob / 12)
    probability = math.exp(token.logprob)
    rows = "".join(
        f"<li{' class=here' if other.token_id == token.token_id else ''}>"
        f'<i style="width:{math.exp(other.logprob):.0%}"></i>'
        f"<code>{_visible(other.text)}</code> {math.exp(other.logprob):.1%}</li>"
        for other in token.alternatives
    )
    return (
        f'<span class="tok" tabindex="0" style="background:rgba(180,83,42,{shade:.2f})" '
        f'aria-label="{escape(token.text, quote=True)}, {probability:.1%}">{_visible(token.text)}'
        f'<span class="tip"><b>{probability:.1%}</b> for <code>{_visible(token.text)}</code>'
        f"<ol>{rows}</ol></span></span>"
    )


def _visible(text: str) -> str:
    """Show ends of lines, which would otherwise not be seen as tokens."""
    return escape(text.replace("\n", "⏎\n") if text.strip(" ") else text)


def win_rates(rates: Sequence[WinRate], votes: int) -> str:
    """Draw how often one model was preferred to another."""
    if not rates:
        return (
            '<p class="quiet">No vote between two models yet. Compare two, read both answers, and '
            "vote under them; better blind, for a name persuades.</p>"
        )
    rows = "".join(_rate(rate) for rate in rates)
    counted = "1 vote" if votes == 1 else f"{votes:,} votes"
    return (
        f'<div class="table"><table class="plain rates"><caption>{counted}</caption>'
        "<thead><tr><th>preferred</th><th>to</th><th>won</th><th>lost</th><th>tied</th>"
        f"<th>wins, with 95 % interval</th></tr></thead><tbody>{rows}</tbody></table></div>"
        '<p class="quiet">Wins among the decided votes, with Wilson’s interval. While it holds '
        "50 %, the votes do not tell which model is better.</p>"
    )


def _rate(rate: WinRate) -> str:
    cells = "".join(f"<td>{count}</td>" for count in (rate.won, rate.lost, rate.tied))
    words = "–"
    bar = ""
    if math.isfinite(rate.rate):
        words = f"{rate.rate:.0%} ({rate.low:.0%} to {rate.high:.0%})"
        left, width = rate.low * 100, (rate.high - rate.low) * 100
        bar = (
            f'<span class="interval" aria-hidden="true"><i style="left:{left:.1f}%;'
            f'width:{width:.1f}%"></i><b style="left:{rate.rate * 100:.1f}%"></b></span>'
        )
    names = f"<td>{escape(rate.model)}</td><td>{escape(rate.against)}</td>"
    return f"<tr>{names}{cells}<td>{bar}{words}</td></tr>"


def history(comparisons: Sequence[Comparison], verdicts: Mapping[str, Verdict]) -> str:
    """Draw the comparisons of this visit, the newest first; each is a button."""
    if not comparisons:
        return '<p class="quiet">Nothing compared yet. What you compare is listed here.</p>'
    rows = []
    for comparison in reversed(comparisons):
        first = comparison.columns[0].entry
        labels = [column.entry.label for column in comparison.columns]
        names = f"{len(labels)} answers, names hidden" if comparison.hidden else ", ".join(labels)
        verdict = verdicts.get(comparison.comparison_id)
        voted = "" if verdict is None else f" · {verdict_words(comparison, verdict)}"
        at = time.strftime("%H:%M", time.localtime(comparison.time_s))
        prompt = first.prompt if len(first.prompt) <= WORDS_SHOWN else first.prompt[:59] + "…"
        rows.append(
            f'<button type="button" data-pick="{comparison.comparison_id}"><b>{escape(prompt)}</b>'
            f"<span>{at} · {escape(names + voted)}</span></button>"
        )
    return f'<div class="picks">{"".join(rows)}</div>'


def verdict_words(comparison: Comparison, verdict: Verdict) -> str:
    """Return the words for a verdict."""
    if isinstance(verdict, int):
        return f"voted for {comparison.columns[verdict].entry.label}"
    return "all were good" if verdict == "all" else "none was good"


def found(references: Sequence[str]) -> str:
    """Draw what a search of the hub found; choosing one adds it to the comparison."""
    if not references:
        return '<p class="quiet">Nothing of that name is on the hub.</p>'
    rows = "".join(
        f'<button type="button" data-pick="{escape(name, quote=True)}">'
        f"<b>{escape(name)}</b><span>add</span></button>"
        for name in references
    )
    return f'<div class="picks">{rows}</div>'


def look_for(experiment: Experiment) -> str:
    """Draw what an experiment asks one to watch."""
    return (
        f'<aside class="lesson"><h3>{escape(experiment.title)}: {escape(experiment.question)}</h3>'
        f"<p>{escape(experiment.look_for)}</p></aside>"
    )


def seen(findings: Findings) -> str:
    """Draw what an experiment has shown."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in findings.head)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in findings.rows
    )
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in findings.sentences)
    return (
        f'<aside class="lesson seen"><h3>What was seen</h3><div class="table"><table class="plain">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div><ul>{said}</ul></aside>"
    )


def notice(words: str) -> str:
    """Draw something the visitor should know, for eyes and for screen readers."""
    return f'<p class="notice" role="status">{escape(words)}</p>' if words else ""


def complaint(error: TriptychError) -> str:
    """Draw what went wrong and what to do next."""
    hint = f" {escape(error.hint)}" if error.hint else ""
    return f'<p class="refused" role="alert"><b>{escape(error.message)}.</b>{hint}</p>'
