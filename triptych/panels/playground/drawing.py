"""Draw answers, figures and token probabilities as HTML. All model output is escaped text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from triptych.lm.generate.engine import Score
from triptych.panels.playground.contest import Column

CSS = """
.answers { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); }
.answer { border: 1px solid var(--border-color-primary); border-radius: .3rem; padding: .6rem .8rem;
          display: flex; flex-direction: column; min-width: 0; }
.answer h3 { margin: 0 0 .3rem; font-size: 1rem; overflow-wrap: anywhere; }
.answer .text { white-space: pre-wrap; overflow-wrap: anywhere; flex: 1; min-height: 5rem; }
.answer .text i { color: var(--body-text-color-subdued); font-style: normal; }
.answer .foot { font-size: .8rem; color: var(--body-text-color-subdued); margin-top: .5rem;
          font-variant-numeric: tabular-nums; }
.tokens { line-height: 2; overflow-wrap: anywhere; }
.tokens span { padding: .1rem 0; border-radius: .15rem; white-space: pre-wrap; }
.tokens span:focus { outline: 2px solid #b4532a; }
"""


def answers(columns: Sequence[Column], names: Sequence[str], prompt: str) -> str:
    """Draw the columns side by side."""
    cells = [_answer(column, name, prompt) for column, name in zip(columns, names, strict=True)]
    return f'<div class="answers" aria-live="polite">{"".join(cells)}</div>'


def _answer(column: Column, name: str, prompt: str) -> str:
    figures = []
    if column.ttft_s is not None:
        figures.append(f"first token {column.ttft_s * 1000:,.0f} ms")
    if column.tok_per_s is not None:
        figures.append(f"{column.tok_per_s:,.0f} tokens/s")
    if column.output_tokens:
        figures.append(f"{column.input_tokens} + {column.output_tokens} tokens")
    if column.note:
        figures.append(column.note)
    return (
        f'<section class="answer" data-done="{str(column.done).lower()}">'
        f"<h3>{escape(name)}</h3>"
        f'<div class="text"><i>{escape(prompt)}</i>{escape(column.text)}</div>'
        f'<div class="foot">{escape(" · ".join(figures))}</div></section>'
    )


def tokens(name: str, score: Score) -> str:
    """Draw a text token by token: the redder, the less the model expected it."""
    spans = []
    for token in score.tokens:
        probability = math.exp(token.logprob) if math.isfinite(token.logprob) else math.nan
        shade = 0.0 if math.isnan(probability) else min(0.75, -token.logprob / 12)
        tip = "the first token" if math.isnan(probability) else f"{probability:.1%}"
        likelier = ", ".join(
            f"{alternative.text!r} {math.exp(alternative.logprob):.1%}"
            for alternative in token.alternatives
        )
        if likelier:
            tip += f"; the model expected {likelier}"
        spans.append(
            f'<span tabindex="0" title="{escape(tip, quote=True)}" '
            f'style="background:rgba(180,83,42,{shade:.2f})">{escape(token.text)}</span>'
        )
    head = (
        f"<h3>{escape(name)}</h3><p class='quiet'>perplexity {score.perplexity:,.1f}, "
        f"{score.bits_per_byte:.3f} bits per byte, {score.scored_tokens} tokens</p>"
    )
    return f'{head}<div class="tokens">{"".join(spans)}</div>'
