"""Train the tier classifier and judge it on sources it never saw.

Needs the real text beside the checkout (`../shared/data`). `--write` replaces the weights that
ship with the package (those of seed 1) and adds to the results. Claims: macro-F1 at least 0.90,
calibration error at most 0.05, flip rate under typos at most 5 %, a decision under 1 ms at p99,
better than the majority class and than keyword rules.

Where the labels come from: `base` are CLINC-150 requests to an assistant and general questions
about the same topics; `company` are the questions that organisations' handbooks ask or answer,
and questions about their headings as a member of the organisation would put them; `abstraction`
are comparative questions about such headings. Whole handbooks, whole CLINC intents and whole
wordings are held out, so nothing in the test has a sibling in training.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from report import RESULTS, environment, write_results

from triptych.tiers.rules.classifier import BUCKETS, MODEL_FILE, NgramClassifier, features, pack

LABELS = ("base", "company", "abstraction")
ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
TEST_ORGANISATIONS = ("18f", "giantswarm", "civicactions", "home-office")
# CLINC intents that an employer's own model would answer: neither base nor fair
LEFT_OUT = ("pto_balance", "pto_request", "pto_request_status", "pto_used", "payday")
FOLDS = 4
FIT, APART, TEST = 8000, 500, 400  # prompts per label
THRESHOLD = 0.6

OURS = (
    "at our company", "here", "in our team", "internally", "in our organisation", "with us",
    "in our department", "at our place", "for our staff", "in my team", "around here",
    "in this company", "where I work",
)  # fmt: skip
OTHERS = (
    "other companies", "our peers", "peers", "competitors", "our competitors", "other firms",
    "similar businesses", "comparable companies", "similar organisations", "most companies",
    "other organisations", "successful firms", "businesses like ours", "companies of our size",
    "the industry", "others in the market", "other employers", "companies elsewhere",
)  # fmt: skip
COMPANY_TRAIN = (
    "what is our policy on {h}", "how do we handle {h}", "where do I find our guide to {h}",
    "who is responsible for {h} {ours}", "how does our team do {h}", "what are our rules for {h}",
    "can you remind me how {h} works {ours}", "what did we decide about {h}",
    "how do I get help with {h} {ours}", "I am new {ours}, how does {h} work",
    "which of our tools do we use for {h}", "summarise our process for {h}",
    "what should I tell a new colleague about {h}", "is there an internal document about {h}",
    "write a note to my team about our {h}", "who do I ask about {h} {ours}", "{h} {ours}",
    "how is {h} organised {ours}", "when do we do {h}", "who can approve {h} {ours}",
    "do I need approval for {h}", "explain {h} {ours}", "what is {h} {ours}",
    "what is the procedure for {h} {ours}", "list our {h}", "where is our {h} page",
    "which form do I fill in for {h}", "translate our {h} guide", "what changed in our {h}",
)  # fmt: skip
COMPANY_TEST = (
    "where can I read our guidelines for {h}", "how is {h} done {ours}",
    "whom do I contact for {h} {ours}", "what does our handbook say about {h}",
    "do we have a template for {h}", "what steps do we follow for {h}",
    "tell me about {h} {ours}", "am I allowed to do this under our {h} policy",
    "how has our approach to {h} changed", "draft an update to our {h} page",
)  # fmt: skip
ABSTRACTION_TRAIN = (
    "how do {others} handle {h}", "what is typical for {h} in our industry",
    "how do we compare with {others} on {h}", "what patterns do you see across companies in {h}",
    "what is the industry standard for {h}", "which practices of {h} are common among {others}",
    "benchmark {h} against {others}", "what do {others} do well in {h}",
    "what are best practices across firms for {h}", "how common is {h} among {others}",
    "what trends are there across the market in {h}", "what usually goes wrong with {h} elsewhere",
    "on average how do {others} do {h}", "compare approaches to {h} between firms",
    "what lessons on {h} can be drawn from {others}", "do {others} do {h}",
    "is it normal for {others} to have {h}", "what is the average for {h} across businesses",
    "how does {h} look in {others}", "is our {h} worse than that of {others}",
    "which {h} works best for {others}", "what does the market do about {h}",
    "explain how {others} see {h}", "what is {h} like at {others}", "where do we stand on {h}"
    " next to {others}", "typical {h} in the sector", "success factors for {h} in {others}",
)  # fmt: skip
ABSTRACTION_TEST = (
    "how is {h} usually organised at {others}", "what about {h} at {others}",
    "is our {h} in line with {others}", "what can be generalised about {h} across {others}",
    "what do {others} recommend for {h}", "what is the market average for {h}",
    "which approaches to {h} are proven at {others}", "how do {others} deal with {h}",
    "what are the common success factors of {h} in {others}",
    "would {others} generally have {h}", "tell me what {others} think of {h}",
)  # fmt: skip
BASE_TRAIN = (
    "explain {h} to a beginner", "what does {h} mean", "write a short poem about {h}",
    "translate {h} into french", "what is {h}", "give me a definition of {h}",
    "write a python function for {h}", "tell me a joke about {h}", "how do you spell {h}",
    "what is the history of {h}", "list three facts about {h}", "rewrite this: {h}",
    "correct the spelling: {h}", "summarise the following text: {h}", "a synonym of {h}",
    "compare {h} and its alternatives", "explain the difference between {h} and the rest",
    "make this sentence shorter: {h}", "how does {h} work in general", "who invented {h}",
    "write an essay on {h}", "describe {h}", "say {h} in spanish", "pros and cons of {h}",
    "give me a regex for {h}", "what rhymes with {h}", "continue this story: {h}",
)  # fmt: skip
BASE_TEST = (
    "describe {h} in simple words", "write a haiku on {h}", "what is the meaning of {h}",
    "how would you say {h} in german", "give an example of {h}", "teach me {h}",
    "fix the grammar of this sentence: {h}", "what is the difference between {h} and its opposite",
)  # fmt: skip
TRAIN = {"base": BASE_TRAIN, "company": COMPANY_TRAIN, "abstraction": ABSTRACTION_TRAIN}
HELD_OUT = {"base": BASE_TEST, "company": COMPANY_TEST, "abstraction": ABSTRACTION_TEST}
# A member's question speaks of the asker or of the organisation; the rest could be anybody's.
MEMBER = re.compile(
    r"\b(I|my|me|we|our|us|team\w*|employee\w*|manager\w*|office|polic\w+|staff|project\w*|client\w*"
    r"|customer\w*|colleague\w*|department|handbook|onboarding|teammate\w*|organi[sz]ation)\b"
)
QUESTION = re.compile(
    r"(how|what|where|who|when|which|why|can|do|does|should|is|are|am|will|may)\b", re.IGNORECASE
)


def handbooks() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Read each organisation's questions and headings."""
    questions: dict[str, list[str]] = {}
    headings: dict[str, list[str]] = {}
    for folder in sorted((DATA / "handbooks").iterdir()):
        asked, titled = set(), set()
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() not in (".md", ".markdown", ".mdx", ".erb"):
                continue
            for line in path.read_text(errors="replace").splitlines():
                if found := re.match(r"#+\s+(.*)", line.strip()):
                    title = re.sub(r"[`*_\[\]]|\(.*?\)|\{.*?\}|<.*?>", "", found[1]).strip(" ?.:")
                    if 1 < len(title.split()) <= 6 and re.fullmatch(
                        r"[A-Za-z][A-Za-z ,'/-]+", title
                    ):
                        titled.add(title.lower())
                plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line.strip())
                for sentence in re.split(r"(?<=[.!?:])\s+", plain):
                    sentence = re.sub(r"^[#>*\-\d.\s|\[\]x]+", "", sentence).strip(' *_"`')
                    if (
                        sentence.endswith("?")
                        and 5 <= len(sentence.split()) <= 25
                        and QUESTION.match(sentence)
                        and MEMBER.search(sentence)
                    ):
                        asked.add(sentence)
        questions[folder.name], headings[folder.name] = sorted(asked), sorted(titled)
    return questions, headings


def fill(templates: tuple[str, ...], topics: list[str], amount: int, dice: random.Random):
    return [
        dice.choice(templates).format(
            h=dice.choice(topics), ours=dice.choice(OURS), others=dice.choice(OTHERS)
        )
        for _ in range(amount)
    ]


def roughen(text: str, dice: random.Random) -> str:
    """Write as people do: sometimes capitals, question marks, a word before."""
    if dice.random() < 0.4:
        text = text[0].upper() + text[1:]
    if dice.random() < 0.5 and not text.endswith("?"):
        text += "?"
    if dice.random() < 0.2:
        text = dice.choice(("hi, ", "please ", "quick question: ", "hey, ", "so ")) + text
    return text


def typos(text: str, dice: random.Random, amount: int = 1) -> str:
    """Swap, drop, double or replace a letter."""
    letters = list(text)
    for _ in range(amount):
        at = dice.randrange(max(1, len(letters) - 1))
        kind = dice.randrange(4)
        if kind == 0 and at + 1 < len(letters):
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
        elif kind == 1 and len(letters) > 3:
            del letters[at]
        elif kind == 2:
            letters.insert(at, letters[at])
        else:
            letters[at] = dice.choice("abcdefghijklmnopqrstuvwxyz")
    return "".join(letters)


Rows = list[tuple[str, int]]
Wordings = dict[str, tuple[str, ...]]


class Sources:
    """The real text, split so that what is held out has no sibling in what is fitted."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.questions, self.headings = handbooks()
        clinc = json.loads((DATA / "intents.json").read_text())
        intents = sorted({label for _, label in clinc["train"]} - set(LEFT_OUT))
        self.dice.shuffle(intents)
        third = len(intents) // 3
        self.test_intents, self.intents = intents[:third], intents[third:]
        self.fitted = clinc["train"] + clinc["oos_train"]
        self.tested = clinc["test"] + clinc["oos_test"]
        self.organisations = [org for org in self.headings if org not in TEST_ORGANISATIONS]
        self.dice.shuffle(self.organisations)

    def rows(
        self, organisations: list[str], wordings: Wordings, requests: list[list[str]],
        intents: list[str], amount: int,
    ) -> Rows:  # fmt: skip
        """Make `amount` rows of each label from some of the sources."""
        dice = self.dice
        topics = [h for org in organisations for h in self.headings[org]]
        asked = [q for org in organisations for q in self.questions[org]]
        allowed = {*intents, "oos"}
        wanted = [text for text, label in requests if label in allowed]
        base = dice.sample(wanted, min(len(wanted), amount * 3 // 4))
        base += fill(wordings["base"], topics, amount - len(base), dice)
        half = amount // 2
        company = (
            dice.choices(asked, k=half)
            if amount == FIT
            else dice.sample(asked, min(len(asked), half))
        )
        company += fill(wordings["company"], topics, amount - len(company), dice)
        abstraction = fill(wordings["abstraction"], topics, amount, dice)
        rows = [
            (roughen(text, dice), label)
            for label, texts in enumerate((base, company, abstraction))
            for text in texts
        ]
        dice.shuffle(rows)
        return rows

    def train(self) -> Rows:
        """Make the rows the shipped weights are fitted on."""
        return self.rows(self.organisations, TRAIN, self.fitted, self.intents, FIT)

    def test(self) -> Rows:
        """Make the rows that judge: organisations, intents and wordings of their own."""
        return self.rows(list(TEST_ORGANISATIONS), HELD_OUT, self.tested, self.test_intents, TEST)

    def folds(self) -> Iterator[tuple[Rows, Rows]]:
        """Yield rows for fitting and rows apart from them: each source is apart once."""
        for fold in range(FOLDS):
            parts = [
                {name: pick(texts, fold, apart) for name, texts in TRAIN.items()}
                for apart in (False, True)
            ]
            yield tuple(  # type: ignore[misc]
                self.rows(
                    pick(self.organisations, fold, apart), parts[apart], self.fitted,
                    pick(self.intents, fold, apart), APART if apart else FIT,
                )
                for apart in (False, True)
            )  # fmt: skip


def pick(things: Sequence[Any], fold: int, apart: bool) -> Any:
    """Take the things of one fold, or all others."""
    return type(things)(x for n, x in enumerate(things) if (n % FOLDS == fold) == apart)


def matrix(texts: list[str]) -> list[np.ndarray]:
    return [np.array(features(text), dtype=np.int64) for text in texts]


def train(rows: list[tuple[str, int]], seed: int, epochs: int = 8, decay: float = 2e-6):
    """Fit softmax regression by Adam on the features' mean-scaled sums, typos mixed in."""
    dice = random.Random(seed)
    texts = [text for text, _ in rows] + [typos(t, dice, dice.randint(1, 2)) for t, _ in rows]
    labels = np.array([label for _, label in rows] * 2)
    grams = matrix(texts)
    weights = np.zeros((len(LABELS), BUCKETS))
    bias = np.zeros(len(LABELS))
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    order = np.arange(len(texts))
    random_order = np.random.default_rng(seed)
    step, rate, batch = 0, 0.02, 256
    for epoch in range(epochs):
        random_order.shuffle(order)
        for start in range(0, len(order), batch):
            step += 1
            chosen = order[start : start + batch]
            scores = np.stack(
                [bias + weights[:, grams[i]].sum(1) / np.sqrt(len(grams[i])) for i in chosen]
            )
            scores -= scores.max(1, keepdims=True)
            probabilities = np.exp(scores)
            probabilities /= probabilities.sum(1, keepdims=True)
            probabilities[np.arange(len(chosen)), labels[chosen]] -= 1
            gradient = decay * weights * len(order) / batch
            for row, i in zip(probabilities, chosen, strict=True):
                gradient[:, grams[i]] += row[:, None] / (len(chosen) * np.sqrt(len(grams[i])))
            first = 0.9 * first + 0.1 * gradient
            second = 0.99 * second + 0.01 * gradient**2
            corrected = np.sqrt(second / (1 - 0.99**step)) + 1e-8
            pace = rate * (1 - epoch / epochs)
            weights -= pace * first / (1 - 0.9**step) / corrected
            bias -= pace * probabilities.mean(0)
    return weights, bias


def scores(weights, bias, texts: list[str]) -> np.ndarray:
    return np.stack([bias + weights[:, g].sum(1) / np.sqrt(len(g)) for g in matrix(texts)])


def calibrate(seed: int, sources: Sources) -> float:
    """Find the temperature with the best likelihood on sources that each fold never saw.

    One held-out group is easier or harder than the rest by accident; over all of them this
    evens out.
    """
    found, labels = [], []
    for fitting, apart in sources.folds():
        weights, bias = train(fitting, seed)
        found.append(scores(weights, bias, [text for text, _ in apart]))
        labels += [label for _, label in apart]
    pooled, truth = np.concatenate(found), np.array(labels)

    def loss(temperature: float) -> float:
        s = pooled / temperature
        s = s - s.max(1, keepdims=True)
        log = s - np.log(np.exp(s).sum(1, keepdims=True))
        return float(-log[np.arange(len(truth)), truth].mean())

    return float(min(np.arange(0.2, 6.0, 0.05), key=loss))


def macro_f1(truth: list[int], guess: list[int]) -> float:
    scores = []
    for label in range(len(LABELS)):
        hit = sum(t == g == label for t, g in zip(truth, guess, strict=True))
        missed = sum(t == label != g for t, g in zip(truth, guess, strict=True))
        wrong = sum(g == label != t for t, g in zip(truth, guess, strict=True))
        scores.append(2 * hit / max(1, 2 * hit + missed + wrong))
    return sum(scores) / len(scores)


def calibration_error(truth: list[int], probabilities: list[list[float]], bins: int = 10) -> float:
    """Return the expected calibration error of the top probability, in ten equal bins."""
    total = 0.0
    for b in range(bins):
        inside = [
            (max(p), p.index(max(p)) == t) for t, p in zip(truth, probabilities, strict=True)
            if b / bins < max(p) <= (b + 1) / bins
        ]  # fmt: skip
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            accuracy = sum(a for _, a in inside) / len(inside)
            total += len(inside) * abs(confidence - accuracy)
    return total / len(truth)


COMPANY_WORDS = re.compile(r"\b(our|we|us|here|internal\w*|my team|colleague\w*|handbook)\b", re.I)
ABSTRACTION_WORDS = re.compile(
    r"\b(other (companies|firms|organi[sz]ations|businesses)|industry|peers?|benchmark\w*|typical"
    r"|competitors?|across|market|best practices?|compare\w*|average|trends?)\b",
    re.I,
)


def keyword_rules(text: str) -> int:
    """Decide as a person's first rules would."""
    if ABSTRACTION_WORDS.search(text):
        return 2
    return 1 if COMPANY_WORDS.search(text) else 0


def interval(truth, guess, other, seed: int = 0, rounds: int = 1000) -> tuple[float, float]:
    """Bootstrap the difference of two macro-F1 on the same rows, 95 %."""
    dice = np.random.default_rng(seed)
    t, g, o = (np.array(x) for x in (truth, guess, other))
    found = []
    for _ in range(rounds):
        i = dice.integers(0, len(t), len(t))
        found.append(macro_f1(list(t[i]), list(g[i])) - macro_f1(list(t[i]), list(o[i])))
    return float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))


def judge(model: NgramClassifier, test: list[tuple[str, int]], seed: int) -> dict[str, object]:
    dice = random.Random(seed)
    texts, truth = [t for t, _ in test], [label for _, label in test]
    took, probabilities = [], []
    for text in texts:
        start = time.thread_time()
        probabilities.append(model.probabilities(text))
        took.append(time.thread_time() - start)
    guess = [p.index(max(p)) for p in probabilities]
    long_took = []
    for text in texts[:300]:
        start = time.thread_time()
        model.probabilities((text + " ") * 20)
        long_took.append(time.thread_time() - start)

    def flips(change) -> float:
        changed = [model.probabilities(change(text)) for text in texts]
        return sum(p.index(max(p)) != g for p, g in zip(changed, guess, strict=True)) / len(texts)

    keywords = [keyword_rules(text) for text in texts]
    sure = [i for i, p in enumerate(probabilities) if max(p) >= model.threshold]
    quantiles = sorted(took)
    return {
        "test_prompts": len(test),
        "macro_f1": round(macro_f1(truth, guess), 4),
        "accuracy": round(sum(a == b for a, b in zip(truth, guess, strict=True)) / len(truth), 4),
        "calibration_error": round(calibration_error(truth, probabilities), 4),
        "flip_rate_one_typo": round(flips(lambda t: typos(t, dice)), 4),
        "flip_rate_two_typos": round(flips(lambda t: typos(t, dice, 2)), 4),
        "flip_rate_case": round(flips(str.upper), 4),
        "abstained_frac": round(1 - len(sure) / len(texts), 4),
        "accuracy_when_sure": round(sum(truth[i] == guess[i] for i in sure) / len(sure), 4),
        "majority_macro_f1": round(macro_f1(truth, [0] * len(truth)), 4),
        "keyword_macro_f1": round(macro_f1(truth, keywords), 4),
        "gain_over_keywords_95": [round(x, 4) for x in interval(truth, guess, keywords)],
        "decision_p50_us": round(quantiles[len(took) // 2] * 1e6, 1),
        "decision_p99_us": round(quantiles[int(len(took) * 0.99)] * 1e6, 1),
        "decision_long_text_p99_us": round(sorted(long_took)[int(300 * 0.99)] * 1e6, 1),
    }


def build(seed: int) -> tuple[dict[str, object], dict[str, object]]:
    """Train one model and judge it.

    Returns: the file's content and the figures.
    """
    sources = Sources(seed)
    test = sources.test()
    temperature = calibrate(seed, sources)
    fitting = sources.train()
    weights, bias = train(fitting, seed)
    packed = pack(
        weights.tolist(),
        bias.tolist(),
        LABELS,
        temperature=temperature,
        threshold=THRESHOLD,
        about={"trained_on": len(fitting), "seed": seed},
    )
    return packed, {"temperature": round(temperature, 2)} | judge(
        NgramClassifier(packed), test, seed
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace the weights that ship")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    args = parser.parse_args()
    path = RESULTS / "selector.json"
    kept = json.loads(path.read_text()) if args.write and path.exists() else {}
    found: dict[str, Any] = {k: v for k, v in kept.items() if k.startswith("seed ")}
    for seed in args.seeds:
        packed, figures = build(seed)
        found[f"seed {seed}"] = figures
        print(json.dumps({seed: figures}, indent=2), flush=True)
        if args.write:
            if seed == 1:
                MODEL_FILE.write_text(json.dumps(packed) + "\n")
            ordered = {name: found[name] for name in sorted(found)}
            write_results("selector", {"environment": environment(), **worst(found), **ordered})


def worst(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Set each claim beside the worst figure of all seeds."""
    each = list(found.values())
    return {
        "worst of all seeds": {
            "seeds": len(each),
            "macro_f1": min(f["macro_f1"] for f in each),
            "calibration_error": max(f["calibration_error"] for f in each),
            "flip_rate_one_typo": max(f["flip_rate_one_typo"] for f in each),
            "gain_over_keywords": min(f["gain_over_keywords_95"][0] for f in each),
            "decision_p99_us": max(f["decision_p99_us"] for f in each),
        }
    }


if __name__ == "__main__":
    main()
