"""Words as questions and passages share them: lower case, without endings, without stop words."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?", re.UNICODE)
# Most English text is ASCII but for these; no character then needs a check of its own.
_TYPOGRAPHY = str.maketrans("‘’“”–—…•\u00a0", "''\"\"--.* ")
STOP_WORDS = frozenset(
    """
    a about after all also am an and any are as at be because been before being between both but by
    can could did do does doing for from get give had has have having he her here him his how i if
    in into is it its just let like may me might more most much must my need no nor not now of on
    one only or other our out over please shall she should so some such tell than that the their
    them then there these they this those through to too under up us use used very was way we were
    what when where which while who whom whose why will with would you your yours
    """.split()  # noqa: SIM905
)
_ENDINGS = (
    ("ational", "ate"), ("ization", "ize"), ("isation", "ise"), ("fulness", "ful"),
    ("iveness", "ive"), ("ousness", "ous"), ("ements", ""), ("ement", ""), ("ments", ""),
    ("ment", ""), ("ations", "ate"), ("ation", "ate"), ("ities", "ity"), ("ingly", ""),
    ("edly", ""), ("ings", ""), ("ing", ""), ("ies", "y"), ("ied", "y"), ("ers", ""), ("er", ""),
    ("ed", ""), ("es", ""), ("ly", ""), ("s", ""),
)  # fmt: skip
_SHORTEST = 3


def words(text: str) -> list[str]:
    """Return the words of a text in order, in lower case and without accents."""
    plain = text.lower().translate(_TYPOGRAPHY)
    if not plain.isascii():
        plain = unicodedata.normalize("NFKD", plain)
        plain = "".join(char for char in plain if not unicodedata.combining(char))
    return _WORD.findall(plain)


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Return a word without its ending, so that `policies` and `policy` are one.

    Numbers and short words stay as they are. It is cruder than Porter's stemmer, and is only ever
    compared with itself.
    """
    word = word.split("'", 1)[0]
    if not word.isalpha() or len(word) <= _SHORTEST:
        return word
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) + len(instead) >= _SHORTEST:
            word = word[: len(word) - len(ending)] + instead
            break
    if len(word) > _SHORTEST and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]
    return word[:-1] if len(word) > _SHORTEST and word.endswith("e") else word


def terms(text: str) -> list[str]:
    """Return the stems of a text's words without stop words, in order."""
    return [stem(word) for word in words(text) if word not in STOP_WORDS]


def query_words(text: str, limit: int = 32) -> list[str]:
    """Return the different words of a question that are worth looking for.

    A question of stop words only is looked for by all of its words.
    """
    found = words(text)
    kept = [word for word in found if word not in STOP_WORDS] or found
    return list(dict.fromkeys(kept))[:limit]
