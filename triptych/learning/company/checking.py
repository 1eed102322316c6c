"""Check what a model wrote: nothing may be shown that the cited passages do not hold.

Every number, date, name, address and quoted word of the answer must stand in the passages or in
the question; marks that cite no passage are taken out. An answer that fails is not corrected: the
extracted sentences are shown instead. Left out: whether the answer is right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from triptych.learning.company.words import STOP_WORDS, stem, terms, words
from triptych.wire.evidence import Checked, Citation, Evidence, Passage

_MARK = re.compile(r"\s?\[(\d{1,3})\]")
_NUMBER = re.compile(r"\d[\d.,:/%-]*\d%?|\d%?")
_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+|https?://\S+|www\.\S+")
_QUOTED = re.compile(r"[\"“”«»]([^\"“”«»]{2,200})[\"“”«»]")
_CAPITAL = re.compile(r"\b[A-Z][\w'’-]*[\w]")
_SPELLED = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
    hundred thousand million half twice third quarter
""".split()  # noqa: SIM905
_VALUES = {word: str(value) for value, word in enumerate(_SPELLED[:21])}
_UNSUPPORTED_SHARE = 0.34


def check(text: str, evidence: Evidence) -> Checked:
    """Return the model's text with its citations, or the extracted answer and the problems."""
    passages = _cited(evidence)
    known = evidence.question + "\n" + "\n".join(_whole(passage) for passage in passages)
    shown, marks = _marks(text, len(passages))
    problems = tuple(unsupported(shown, known))
    if problems or not shown.strip():
        return Checked(evidence.answer, evidence.citations, False, problems or ("empty",))
    citations = _citations(shown, marks, passages, evidence)
    if not marks:
        shown = f"{shown.rstrip()} " + "".join(f"[{one.mark}]" for one in citations)
    return Checked(shown.strip(), citations, True)


def unsupported(text: str, known: str) -> list[str]:
    """Return what a text says that the known text does not hold, each with its kind."""
    plain = _MARK.sub("", text)
    flat = " ".join(words(known))
    have = set(words(known))
    stems = {stem(word) for word in have}
    numbers = {_normal(number) for number in _NUMBER.findall(known)}
    numbers |= {_VALUES[word] for word in have if word in _VALUES}
    found = [f"address {one}" for one in _ADDRESS.findall(plain) if one.strip(".,)") not in known]
    found += [f"number {one}" for one in _NUMBER.findall(plain) if _normal(one) not in numbers]
    found += [
        f"number {word}"
        for word in words(plain)
        if word in _SPELLED and word not in have and _VALUES.get(word) not in numbers
    ]
    found += [
        f"quotation {quote}"
        for quote in _QUOTED.findall(plain)
        if " ".join(words(quote)) not in flat
    ]
    for match in _CAPITAL.finditer(plain):
        if match.group() in known:
            continue
        for word in words(match.group()):
            if word not in have and word not in STOP_WORDS and stem(word) not in stems:
                if _starts_sentence(plain, match.start()) and word.islower() and _is_common(word):
                    continue
                found.append(f"name {match.group()}")
    content = [one for one in terms(plain) if one.isalpha()]
    strange = [one for one in content if one not in stems]
    if content and len(strange) / len(content) > _UNSUPPORTED_SHARE:
        found.append(f"{len(strange)} of {len(content)} words are in no passage")
    return list(dict.fromkeys(found))


def _is_common(word: str) -> bool:
    """Return whether a word that begins a sentence may be no name: it has a common ending."""
    return word.endswith(("ing", "ed", "ly", "tion", "s", "er", "al", "ent", "ive", "able"))


def _starts_sentence(text: str, position: int) -> bool:
    before = text[:position].rstrip(" \"'“(*-")
    return not before or before[-1] in ".!?:\n"


def _normal(number: str) -> str:
    """Return a number so that 1,000 equals 1000 and 5.0 equals 5."""
    bare = number.rstrip(".,:/-%")
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", bare):
        bare = bare.replace(",", "")
    if re.fullmatch(r"\d+\.\d+", bare):
        bare = bare.rstrip("0").rstrip(".")
    return bare.lstrip("0") or "0"


def _whole(passage: Passage) -> str:
    return "\n".join((passage.title, *passage.headings, passage.text))


def _cited(evidence: Evidence) -> list[Passage]:
    """Return the passages in the order in which the prompt numbered them."""
    found = [citation.passage for citation in evidence.citations] or list(evidence.passages)
    return list(dict.fromkeys(found))


def _marks(text: str, passages: int) -> tuple[str, list[int]]:
    """Return the text without marks that cite nothing, and the marks that are left."""
    kept: list[int] = []

    def keep(match: re.Match[str]) -> str:
        mark = int(match[1])
        if 1 <= mark <= passages:
            kept.append(mark)
            return match.group()
        return ""

    return _MARK.sub(keep, text), list(dict.fromkeys(kept))


def _citations(
    text: str, marks: Sequence[int], passages: Sequence[Passage], evidence: Evidence
) -> tuple[Citation, ...]:
    if not marks:
        return evidence.citations
    quotes = {citation.passage: citation.quote for citation in evidence.citations}
    return tuple(
        Citation(mark, quotes.get(passages[mark - 1]) or _nearest(text, passages[mark - 1]),
                 passages[mark - 1])
        for mark in sorted(marks)
    )  # fmt: skip


def _nearest(text: str, passage: Passage) -> str:
    """Return the sentence of a passage that shares most words with the answer."""
    from triptych.learning.company.sentences import split

    own = set(terms(text))
    sentences = [sentence for _, sentence in split(passage.text)] or [passage.text]
    return max(sentences, key=lambda sentence: len(own & set(terms(sentence))))
