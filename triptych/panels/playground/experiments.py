"""Three experiments for users who meet a language model for the first time.

Each holds everything still but one thing, says what to look for, and afterwards says what was
seen, in figures of the very answers on the page. Left out: running them, drawing them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from triptych.config.generate import Sampling
from triptych.lm.generate.engine import Token
from triptych.panels.playground.comparison import Column, Entry

TEMPERATURES = (0.0, 0.6, 1.0, 1.6)
WORDINGS = ("A list is", "What is a list?", "Question: what is a list?\nAnswer:", "my_list = [")
SENTENCE = "The function returns a list of all the names in the module."
MARKED = 0.05

Scores = Sequence[float | None]
# The answers of each entry, one for each seed.
Groups = Sequence[Sequence[Column]]


@dataclass(frozen=True)
class Findings:
    """What was seen: a table, and what it says in sentences."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Experiment:
    """One experiment: what it asks, what it changes, what to look for.

    `scores_prompt` asks for the bits per byte of the prompt under each model, for the findings.
    `seeds` is how many answers each finding is a mean of; the first is the one shown.
    """

    key: str
    title: str
    question: str
    look_for: str
    prompt: str
    sampling: Sampling
    ages: int
    entries: Callable[[Sequence[str], Sequence[str], str, Sampling], list[Entry]]
    seen: Callable[[Groups, Scores], Findings]
    scores_prompt: bool = False
    seeds: int = 3


def distinct(text: str, n: int = 2) -> float:
    """Return the share of different runs of n words among all of them; nan where there are none.

    Source: Li, Galley, Brockett, Gao and Dolan, A diversity-promoting objective function for
    neural conversation models, NAACL 2016, section 5.
    """
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    runs = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return len(set(runs)) / len(runs) if runs else math.nan


def sureness(tokens: Sequence[Token]) -> float:
    """Return the geometric mean of the probabilities of what was written; nan where unknown."""
    known = [token.logprob for token in tokens if math.isfinite(token.logprob)]
    return math.exp(sum(known) / len(known)) if known else math.nan


def shared_words(one: str, other: str) -> float:
    """Return the share of words two texts have in common among all words of both."""
    a, b = (set(re.findall(r"\w+", text.lower())) for text in (one, other))
    return len(a & b) / len(a | b) if a | b else math.nan


def _by_temperature(
    references: Sequence[str], labels: Sequence[str], prompt: str, sampling: Sampling
) -> list[Entry]:
    return [
        Entry(
            reference=references[0],
            label=f"{labels[0]}, temperature {temperature:g}",
            prompt=prompt,
            sampling=replace(sampling, temperature=temperature, logprobs=0),
        )
        for temperature in TEMPERATURES
    ]


def _by_age(
    references: Sequence[str], labels: Sequence[str], prompt: str, sampling: Sampling
) -> list[Entry]:
    asked = replace(sampling, logprobs=0)
    return [
        Entry(reference=reference, label=label, prompt=prompt, sampling=asked)
        for reference, label in zip(references, labels, strict=True)
    ]


def _by_wording(
    references: Sequence[str], labels: Sequence[str], prompt: str, sampling: Sampling
) -> list[Entry]:
    # The prompt on the page is one of the wordings, so changing it there changes the experiment.
    wordings = dict.fromkeys((prompt, *(w for w in WORDINGS if w != prompt)))
    asked = replace(sampling, logprobs=5)
    return [
        Entry(
            reference=references[0],
            label=f"{labels[0]}: {wording.splitlines()[0]}",
            prompt=wording,
            sampling=asked,
        )
        for wording in list(wordings)[:4]
    ]


def mean(values: Iterable[float]) -> float:
    """Return the mean of what could be measured; nan where nothing could."""
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan


def _seen_by_temperature(groups: Groups, _: Scores) -> Findings:
    variety = [mean(distinct(column.text) for column in group) for group in groups]
    sure = [mean(sureness(column.tokens) for column in group) for group in groups]
    rows = tuple(
        (f"{group[0].entry.sampling.temperature:g}", percent(v), percent(s))
        for group, v, s in zip(groups, variety, sure, strict=True)
    )
    sentences = [
        _trend("Different word pairs", variety, "As temperature rose", grows=True),
        _trend("The model's mean probability of its own words", sure, "As temperature rose"),
    ]
    if variety and variety[0] < 0.5:
        sentences.append(
            "At temperature 0 the model repeats itself: the likeliest words lead back to "
            "themselves, and nothing breaks the circle."
        )
    sentences.append(_over(groups))
    head = ("temperature", "different word pairs", "probability of its own words")
    return Findings(head, rows, tuple(sentences))


def _over(groups: Groups) -> str:
    """Return how many answers the figures are a mean of."""
    seeds = len(groups[0])
    return f"Means over {seeds} seeds." if seeds > 1 else "One seed so far; more are being drawn."


def _seen_by_age(groups: Groups, scores: Scores) -> Findings:
    columns = [group[0] for group in groups]
    variety = [mean(distinct(column.text) for column in group) for group in groups]
    rows = tuple(
        (column.entry.label, "–" if bits is None else f"{bits:.2f}", percent(v))
        for column, bits, v in zip(columns, scores, variety, strict=True)
    )
    known = [bits for bits in scores if bits is not None]
    sentences = [f"The sentence scored is the prompt itself: “{columns[0].entry.prompt}”"]
    if len(known) > 1:
        first, last = known[0], known[-1]
        if last < first:
            share = 1 - last / first
            sentences.append(
                f"The oldest training state needed {first:.2f} bits for each byte of it, the "
                f"newest {last:.2f}: {share:.0%} less surprised."
            )
        else:
            sentences.append(
                f"It did not get easier ({first:.2f}, then {last:.2f} bits per byte): one sentence "
                "is little evidence; the curve under “How they learned” is over all held-out text."
            )
    return Findings(("checkpoint", "bits per byte", "different word pairs"), rows, tuple(sentences))


def _seen_by_wording(groups: Groups, _: Scores) -> Findings:
    columns = [group[0] for group in groups]
    rows = []
    for column in columns:
        first = column.tokens[0].alternatives if column.tokens else ()
        best = max(first, key=lambda alternative: alternative.logprob, default=None)
        likeliest = f"{best.text!r}, {math.exp(best.logprob):.0%}" if best else "–"
        rows.append((repr(column.entry.prompt), likeliest, percent(distinct(column.text))))
    overlaps = [shared_words(a.text, b.text) for a, b in pairwise(columns)]
    known = [overlap for overlap in overlaps if math.isfinite(overlap)]
    sentences = []
    if known:
        sentences.append(
            f"Neighbouring answers share {sum(known) / len(known):.0%} of their words, though "
            "model, seed and settings are the same. Only the wording differs."
        )
    sentences.append(
        "The model continues a text; it does not look for what you meant. What it read before "
        "decides what a beginning like yours is usually followed by."
    )
    head = ("prompt", "likeliest next token", "different word pairs")
    return Findings(head, tuple(rows), tuple(sentences))


def percent(share: float) -> str:
    """Write a share as a whole per cent."""
    return f"{share:.0%}" if math.isfinite(share) else "–"


def _trend(what: str, values: Sequence[float], when: str, *, grows: bool = False) -> str:
    """Return where a figure went, and whether that is expected."""
    known = [value for value in values if math.isfinite(value)]
    if len(known) < 2:
        return f"{what} could not be measured: the answers are too short."
    first, last = known[0], known[-1]
    way = "rose" if last > first + MARKED else "fell" if last < first - MARKED else "hardly moved"
    words = f"{when}, “{what.lower()}” {way}: from {first:.0%} to {last:.0%}."
    if way != ("rose" if grows else "fell"):
        words += " That is unusual: one sample proves little; try another seed."
    return words


_NEUTRAL = Sampling(max_new_tokens=80, temperature=0.8, seed=1)

EXPERIMENTS = (
    Experiment(
        key="temperature",
        title="Temperature",
        question="How bold should it be?",
        look_for="One model, one prompt, one seed; only the temperature differs. At 0 it always "
        "takes the likeliest token: does it start to circle? At 1 it follows its own "
        "probabilities. Beyond, unlikely tokens come up: where does it stop making sense?",
        prompt="The ",
        sampling=replace(_NEUTRAL, temperature=1.0),
        ages=1,
        entries=_by_temperature,
        seen=_seen_by_temperature,
    ),
    Experiment(
        key="age",
        title="Age of a checkpoint",
        question="What does training change?",
        look_for="One run at several ages, the youngest first, with the same prompt and seed. Look "
        "for the order in which things are learned: letters and spaces, then words, then how words "
        "follow each other, then sentences that hold together.",
        prompt=SENTENCE,
        sampling=_NEUTRAL,
        ages=4,
        entries=_by_age,
        seen=_seen_by_age,
        scores_prompt=True,
    ),
    Experiment(
        key="wording",
        title="Wording of the prompt",
        question="Why ask the same thing differently?",
        look_for="One model, four ways to begin. A model that was only trained to continue text "
        "does not answer questions; it goes on as such a text usually goes on. Which beginning "
        "leads to the most useful continuation? Write your own into the prompt, then run it again.",
        prompt=WORDINGS[0],
        sampling=_NEUTRAL,
        ages=1,
        entries=_by_wording,
        seen=_seen_by_wording,
        seeds=1,
    ),
)
