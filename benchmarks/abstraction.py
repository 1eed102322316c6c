"""Time and memory of the abstraction tier at size: 10,000 synthetic companies x 300 practices.

Needs nothing. Claims: counting and rendering under 5 minutes and 2 GB on two cores, one company's
change read in under 10 s, an answer at p95 under 20 ms without a model. `--handbooks` times the
reading of the real handbooks beside the checkout (`../shared/data`) instead. The synthetic votes
are counted in memory; reading them from 10,000 folders is timed apart.

Also measured, without a limit: how well a party that knows all of a company's practices, and how
common each is outside, finds out whether the company is counted (AUC; .5 is chance). With
`--handbooks`: which of four practices does a held-out organisation document, answered by support
alone (.25 is chance).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from report import environment, write_results

from triptych.documents.folders import read_folder
from triptych.learning.abstraction import vocabulary as vocabularies
from triptych.learning.abstraction.answering import Index, answer
from triptych.learning.abstraction.build import gated_cards
from triptych.learning.abstraction.companies import Companies, read
from triptych.learning.abstraction.counting import Contribution, Rules, count
from triptych.learning.abstraction.extraction import Vote
from triptych.learning.abstraction.gates import profile
from triptych.learning.abstraction.releases import Release
from triptych.learning.abstraction.vocabulary import Vocabulary

COMPANIES, PRACTICES, QUESTIONS = 10_000, 300, 2_000
HANDBOOKS = Path(__file__).resolve().parents[2] / "shared" / "data" / "handbooks"


def main() -> None:
    """Measure, print, and with `--write` keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--companies", type=int, default=COMPANIES)
    parser.add_argument("--handbooks", action="store_true", help="time the reading of real text")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results")
    arguments = parser.parse_args()
    found = environment()
    found |= handbooks() if arguments.handbooks else synthetic(arguments.companies)
    name = "abstraction-handbooks" if arguments.handbooks else "abstraction"
    print(json.dumps(found, indent=1))
    if arguments.write:
        write_results(name, found)


def synthetic(companies: int) -> dict[str, Any]:
    """Return times and memory of counting, answering and loading."""
    drawn = random.Random(1)
    vocabulary = _wide(vocabularies.load(), PRACTICES)
    rules = Rules(most_practices=PRACTICES)
    contributions = [_contribution(drawn, number, vocabulary) for number in range(companies)]
    started = time.perf_counter()
    cards, _ = gated_cards(contributions, list, vocabulary, rules)
    counted_s = time.perf_counter() - started
    release = Release(1, {"cards_sha256": ""}, tuple(cards))
    index = Index(vocabulary)
    own = contributions[0].votes
    asked_ms = []
    for _ in range(QUESTIONS):
        practice = drawn.choice(vocabulary.practices)
        started = time.perf_counter()
        answer(f"How do similar companies handle {practice.words}?", release, index, own)
        asked_ms.append((time.perf_counter() - started) * 1000)
    asked_ms.sort()
    return {
        "companies": companies,
        "practices": len(vocabulary.practices),
        "votes": sum(len(one.votes) for one in contributions),
        "cards": len(cards),
        "count, gate and render, s": round(counted_s, 2),
        "answer p50, ms": round(asked_ms[len(asked_ms) // 2], 3),
        "answer p95, ms": round(asked_ms[int(len(asked_ms) * 0.95)], 3),
        **{
            f"membership known from the counts of {n}, AUC": _membership(n) for n in (13, 100, 1000)
        },
        "load a reading of 300 votes, ms": round(_load_ms(contributions[0]), 2),
        "peak memory, MB": _peak_mb(),
    }


def handbooks() -> dict[str, Any]:
    """Return how long each handbook takes to be read, extracted and profiled."""
    vocabulary = vocabularies.load()
    found: dict[str, Any] = {}
    voted: dict[str, set[str]] = {}
    for folder in sorted(one for one in HANDBOOKS.iterdir() if one.is_dir()):
        started = time.perf_counter()
        documents = list(read_folder(folder))
        parsed_s = time.perf_counter() - started
        reading = read(folder.name, documents, vocabulary)
        voted[folder.name] = set(reading.votes)
        found[folder.name] = {
            "passages": reading.passages,
            "practices": len(reading.votes),
            "documents, s": round(parsed_s, 1),
            "practices, s": round(time.perf_counter() - started - parsed_s, 1),
        }
    right, asked = _held_out(voted)
    found |= {"held-out organisation, questions": asked}
    found |= {"held-out organisation, right by support": round(right / asked, 3)}
    return found | {"peak memory, MB": _peak_mb()}


def _held_out(voted: dict[str, set[str]]) -> tuple[int, int]:
    """Return right answers and questions: which of four practices does this one document?

    The other organisations answer by their support; among equals the answer is drawn.
    """
    drawn = random.Random(1)
    every = [one.id for one in vocabularies.load().practices]
    right = asked = 0
    for name, own in voted.items():
        support = {one: sum(one in given for other, given in voted.items() if other != name)
                   for one in every}  # fmt: skip
        missing = [one for one in every if one not in own]
        for practice in sorted(own):
            if len(missing) < 3:
                continue
            options = [practice, *drawn.sample(missing, 3)]
            most = max(support[one] for one in options)
            right += drawn.choice([one for one in options if support[one] == most]) == practice
            asked += 1
    return right, asked


def _membership(companies: int, trials: int = 300) -> float:
    """Return the AUC of the likelihood ratio of a company's votes, counted against outside."""
    drawn = random.Random(companies)
    vocabulary = vocabularies.load()
    names = [one.id for one in vocabulary.practices if one.kind == "yes_no"]
    inside, outside = [], []
    for _ in range(trials):
        common = {one: drawn.uniform(0.2, 0.8) for one in names}
        people = [
            Contribution(
                f"{number:06d}",
                dict.fromkeys((one for one in names if drawn.random() < common[one]), "yes"),
            )
            for number in range(companies + 1)
        ]  # fmt: skip
        lines = count(people[1:], vocabulary, Rules(most_practices=len(names)))
        shares = {one.practice: one.supports[0].companies / companies for one in lines
                  if one.dimension == "all"}  # fmt: skip
        for target, scores in ((people[1], inside), (people[0], outside)):
            scores.append(sum(_ratio(one in target.votes, share, common[one])
                              for one, share in shares.items()))  # fmt: skip
    wins = sum((a > b) + 0.5 * (a == b) for a in inside for b in outside)
    return round(wins / trials**2, 3)


def _ratio(has: bool, share: float, common: float) -> float:
    share = min(max(share, 0.01), 0.99)
    return math.log(share / common) if has else math.log((1 - share) / (1 - common))


def _wide(vocabulary: Vocabulary, practices: int) -> Vocabulary:
    """Return a vocabulary with variants of its practices up to a number."""
    listed = list(vocabulary.practices)
    while len(listed) < practices:
        one = listed[len(listed) % len(vocabulary.practices)]
        listed.append(replace(one, id=f"{one.id}_{len(listed)}"))
    return replace(vocabulary, practices=tuple(listed))


def _contribution(drawn: random.Random, number: int, vocabulary: Vocabulary) -> Contribution:
    votes = {
        one.id: drawn.choice(one.values) for one in vocabulary.practices if drawn.random() < 0.6
    }
    return Contribution(
        f"{number:06d}", votes, {}, drawn.choice(vocabulary.industries),
        drawn.choice(vocabulary.sizes),
    )  # fmt: skip


def _load_ms(one: Contribution) -> float:
    with tempfile.TemporaryDirectory() as folder:
        companies = Companies(Path(folder))
        reading = read("a", [], vocabularies.load())
        votes = {name: Vote(value, ("a.md#0-9",)) for name, value in one.votes.items()}
        sentences = dict.fromkeys((f"{name}/a.md#0-9" for name in votes), "a sentence of a passage")
        full = replace(reading, votes=votes, sentences=sentences, profile=profile("a", ["words"]))
        companies.save("a", full)
        started = time.perf_counter()
        for _ in range(100):
            companies.load("a")
        return (time.perf_counter() - started) * 10


def _peak_mb() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
