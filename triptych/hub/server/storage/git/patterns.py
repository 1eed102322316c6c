"""Patterns of `.gitattributes` and `.gitignore` as git matches them, in linear time.

A wildcard remembers only the last place where it could have stood: within a segment for `*`,
between segments for `**`. That is enough, because what follows is matched at its first place.
Source: git's `gitignore(5)`, `gitattributes(5)` and `wildmatch.c`.
"""

from __future__ import annotations

import re
from functools import lru_cache

from triptych.errors import HubRefused
from triptych.hub.server import limits
from triptych.hub.server.limits import Steps

_CLASSES = {
    "alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "blank": " \\t", "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9", "graph": "\\x21-\\x7e", "lower": "a-z", "print": "\\x20-\\x7e",
    "punct": re.escape("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"), "space": " \\t\\n\\r\\f\\v",
    "upper": "A-Z", "xdigit": "0-9a-fA-F",
}  # fmt: skip


_SLASH = re.compile(r"((?<!\\)(?:\\\\)*)\\/")


class Segment:
    """Match one segment of a path; pieces between stars have a fixed length each."""

    def __init__(self, text: str) -> None:
        self.literal, pieces = _pieces(text)
        self.cost = len(pieces)
        self._pieces = [re.compile(piece, re.DOTALL) for piece, _ in pieces]
        self._last_length = pieces[-1][1]

    def matches(self, name: str) -> bool:
        """Return whether the whole name fits."""
        if self.literal is not None:
            return name == self.literal
        first = self._pieces[0]
        if len(self._pieces) == 1:
            return first.fullmatch(name) is not None
        begun = first.match(name)
        if begun is None:
            return False
        position = begun.end()
        for piece in self._pieces[1:-1]:
            found = piece.search(name, position)
            if found is None:
                return False
            position = found.end()
        start = len(name) - self._last_length
        return start >= position and self._pieces[-1].fullmatch(name, start) is not None


class Pattern:
    """Match whole paths; a pattern without a slash matches a name in any folder."""

    def __init__(self, text: str) -> None:
        if len(text) > limits.PATTERN_CHARS:
            raise HubRefused(
                413, f"One of the patterns has more than {limits.PATTERN_CHARS} letters"
            )
        self.segments: list[Segment | None] = []
        if "/" not in text:
            self.segments.append(None)
        # An escaped slash is a slash; no other letter changes what divides a path.
        for part in _SLASH.sub(r"\1/", text).removeprefix("/").split("/"):
            if part == "**":
                if not self.segments or self.segments[-1] is not None:
                    self.segments.append(None)
            else:
                self.segments.append(_segment(part))

    def matches(self, names: list[str], steps: Steps) -> bool:
        """Return whether a path, in segments, fits."""
        at = number = 0
        resume: tuple[int, int] | None = None
        while number < len(names):
            if at < len(self.segments):
                segment = self.segments[at]
                if segment is None:
                    at += 1
                    if at == len(self.segments):
                        return True
                    resume = (at, number)
                    continue
                steps.take(segment.cost)
                if segment.matches(names[number]):
                    at += 1
                    number += 1
                    continue
            if resume is None:
                return False
            steps.take(1)
            resume = (resume[0], resume[1] + 1)
            at, number = resume
        return at == len(self.segments)


def plain_text(pattern: str) -> str | None:
    """Return the one path or name a pattern fits, or None when it has wildcards."""
    if not any(letter in pattern for letter in "*?[\\"):
        return pattern
    return None if len(pattern) > limits.PATTERN_CHARS else _pieces(pattern)[0]


@lru_cache(maxsize=4096)
def _segment(text: str) -> Segment:
    return Segment(text)


def _pieces(text: str) -> tuple[str | None, list[tuple[str, int]]]:
    """Return the text itself when it has no wildcard, and its parts between stars.

    Each part is an expression and the number of letters it fits.
    """
    pieces, plain, is_literal, at = [("", 0)], "", True, 0
    while at < len(text):
        letter = text[at]
        at += 1
        if letter == "*":
            pieces.append(("", 0))
        elif letter == "?":
            expression = "[^/]"
        elif letter == "[":
            expression, at = _bracket(text, at)
        else:
            if letter == "\\" and at < len(text):
                letter = text[at]
                at += 1
                plain += letter
                pieces[-1] = (pieces[-1][0] + re.escape(letter), pieces[-1][1] + 1)
                continue
            plain += letter
            expression = re.escape(letter)
        if letter in "*?[":
            is_literal = False
        if letter != "*":
            pieces[-1] = (pieces[-1][0] + expression, pieces[-1][1] + 1)
    return (plain if is_literal else None), pieces


def _bracket(text: str, at: int) -> tuple[str, int]:
    """Return the expression of a set of letters, and where it ends; without an end it fits none."""
    inside, start = "", at
    negated = at < len(text) and text[at] in "!^"
    at += negated
    first = at
    while at < len(text):
        letter = text[at]
        if letter == "]" and at > first:
            return f"(?!/)[{'^' if negated else ''}{inside}]" if inside else "(?!)", at + 1
        if letter == "[" and text[at : at + 2] == "[:" and ":]" in text[at:]:
            end = text.index(":]", at)
            if text[at + 2 : end] not in _CLASSES:
                return "(?!)", len(text)
            inside += _CLASSES[text[at + 2 : end]]
            at = end + 2
            continue
        low, at = _letter(text, at)
        high = low
        if text[at : at + 1] == "-" and at + 1 < len(text) and text[at + 1] != "]":
            high, at = _letter(text, at + 1)
        if low <= high:
            inside += f"{re.escape(low)}-{re.escape(high)}"
    return "(?!)", max(start, len(text))


def _letter(text: str, at: int) -> tuple[str, int]:
    if text[at] == "\\" and at + 1 < len(text):
        return text[at + 1], at + 2
    return text[at], at + 1
