"""The last gates before a text leaves: words, copies, names and identifiers.

Every check fails closed and reports what it found by kind, never by the word itself, so that a
report holds no secret. Text made of the vocabulary's public words only cannot be a copy of a
company's text; that exemption is what keeps a company from suppressing a card by writing its words
into a document. Left out: models; none may approve a text.
"""

from __future__ import annotations

import hashlib
import math
import re
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from triptych.learning.abstraction.cards import TEMPLATE_WORDS, Card
from triptych.learning.abstraction.vocabulary import Vocabulary
from triptych.learning.company.words import words

GRAM = 8
_ENTROPY_BITS = 3.5
_TOKEN = re.compile(r"[A-Za-z0-9_\-+/=.]{12,}")
_IDENTIFIERS: dict[str, re.Pattern[str]] = {
    "e-mail address": re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+"),
    "address of a page": re.compile(
        r"\b(?:https?://|www\.)\S+|\b[a-z0-9-]+\.(?:com|org|net|io|gov|co)\b", re.I
    ),
    "IP address": re.compile(
        r"\b\d{1,3}(?:\.\d{1,3}){3}\b|\b(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{1,4}\b", re.I
    ),
    "private key": re.compile(r"-----BEGIN"),
    "token": re.compile(r"\b(?:eyJ|sk-|hf_|gh[pousr]_|xox[abprs]-|AKIA|tri_)[A-Za-z0-9_.\-]{8,}"),
    "bank account": re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}\b"),
    "long number": re.compile(r"\d(?:[ \-]?\d){5,}"),
    "amount of money": re.compile(
        r"[$£€]\s?\d|\b\d[\d.,]*\s?(?:usd|eur|gbp|dollars|euros|pounds)\b", re.I
    ),
    "date": re.compile(r"\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}[/.]\d{1,2}[/.]\d{2,4}\b"),
}  # fmt: skip
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class TextProfile:
    """What the gates know of a company's text: its words, hashes of its 8-grams, its own names."""

    company: str
    words: frozenset[str]
    grams: Sequence[int] = ()
    names: frozenset[str] = frozenset()

    def has_gram(self, hashed: int) -> bool:
        """Return whether the company wrote these words in a row; `grams` are in order."""
        place = bisect_left(self.grams, hashed)
        return place < len(self.grams) and self.grams[place] == hashed


@dataclass(frozen=True)
class Gates:
    """Check texts against what the contributing companies wrote."""

    public: frozenset[str]
    numbers: frozenset[str]
    k: int
    profiles: Sequence[TextProfile] = ()
    supported: frozenset[str] = field(default_factory=frozenset)

    @staticmethod
    def of(vocabulary: Vocabulary, k: int, profiles: Sequence[TextProfile]) -> Gates:
        """Return the gates of a release. A word is supported by k companies that wrote it."""
        counts: Counter[str] = Counter()
        for profile in profiles:
            counts.update(profile.words)
        supported = frozenset(word for word, companies in counts.items() if companies >= k)
        public, numbers = public_words(vocabulary)
        return Gates(public, numbers, k, tuple(profiles), supported)

    def is_public(self, card: Card) -> bool:
        """Return whether a card has no word but public ones and figures."""
        return all(word in self.public or word.isdigit() for word in words(card.text))

    def problems(self, text: str, counts: Iterable[int] = ()) -> list[str]:
        """Return what is wrong with a text, by kind; an empty list lets it pass.

        `counts` are the figures of the table that the text may hold.
        """
        found = [kind for kind, pattern in _IDENTIFIERS.items() if self._holds(pattern, text)]
        found += ["random token" for token in _TOKEN.findall(text) if _is_random(token)]
        allowed = self.numbers | {str(one) for one in counts}
        if any(one.replace(",", "") not in allowed for one in _NUMBER.findall(text)):
            found.append("a number that is in no table")
        written = words(text)
        plain = [word for word in written if not word.isdigit()]
        if any(word not in self.public and word not in self.supported for word in plain):
            found.append(f"a word that fewer than {self.k} companies use")
        if self._names(written):
            found.append("a name of a company's own")
        if self._copies(written, self.public | allowed):
            found.append(f"{GRAM} words in a row from fewer than {self.k} companies")
        return sorted(set(found))

    def _holds(self, pattern: re.Pattern[str], text: str) -> bool:
        # "dollars or pounds" with the end of a bucket is the vocabulary's own wording.
        return any(
            not set(words(match.group())) <= self.public | self.numbers
            for match in pattern.finditer(text)
        )

    def _names(self, written: Sequence[str]) -> bool:
        spaced = f" {' '.join(written)} "
        return any(
            f" {name} " in spaced
            for profile in self.profiles
            for name in profile.names
            if not set(name.split()) <= self.public
        )

    def _copies(self, written: Sequence[str], public: frozenset[str]) -> bool:
        for start in range(len(written) - GRAM + 1):
            gram = written[start : start + GRAM]
            if public.issuperset(gram):
                continue
            hashed = gram_hash(gram)
            holders = sum(profile.has_gram(hashed) for profile in self.profiles)
            if 0 < holders < self.k:
                return True
        return False


def public_words(vocabulary: Vocabulary) -> tuple[frozenset[str], frozenset[str]]:
    """Return the words and the numbers of the vocabulary's own texts and of the templates."""
    texts = [TEMPLATE_WORDS, *vocabulary.industries, *vocabulary.sizes]
    for practice in vocabulary.practices:
        texts += [practice.text, practice.no_text, practice.topic, practice.unit, *practice.values]
    found = words(" ".join(texts))
    numbers = frozenset(word for word in found if word.isdigit())
    return frozenset(found) - numbers, numbers


def card_problems(card: Card, gates: Gates) -> list[str]:
    """Return what is wrong with a card."""
    return gates.problems(card.text, (card.companies, *(one.companies for one in card.supports)))


def profile(company: str, texts: Iterable[str], names: Iterable[str] = ()) -> TextProfile:
    """Return the profile of a company's texts."""
    found: set[str] = set()
    grams: set[int] = set()
    for text in texts:
        written = words(text)
        found.update(written)
        grams.update(
            gram_hash(written[start : start + GRAM]) for start in range(len(written) - GRAM + 1)
        )
    return TextProfile(company, frozenset(found), array("Q", sorted(grams)), own_names(names))


def own_names(names: Iterable[str]) -> frozenset[str]:
    """Return names as the gates compare them: lower-case words with one space between."""
    return frozenset(" ".join(words(name)) for name in names) - {""}


def gram_hash(gram: Sequence[str]) -> int:
    """Return 64 bits of a hash of words in a row."""
    digest = hashlib.blake2b(" ".join(gram).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _is_random(token: str) -> bool:
    """Return whether a token looks drawn: letters and digits mixed, of high entropy."""
    if not (re.search(r"\d", token) and re.search(r"[A-Za-z]", token)):
        return False
    counts = Counter(token)
    bits = -sum(n / len(token) * math.log2(n / len(token)) for n in counts.values())
    return bits >= _ENTROPY_BITS
