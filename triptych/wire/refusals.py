"""Whether an answer is a refusal, by its first words.

A closed list of phrases: good enough to compare two models by, not to classify one answer.
Measured nowhere on its own; a model that refuses in other words is not seen.
"""

from __future__ import annotations

import re

_FIRST_CHARACTERS = 240
_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:not able|unable|sorry)|i (?:can(?:no|')t|cannot|could not|do not|don't) "
    r"(?:answer|help|know|find|assist|provide)|(?:do|does) not answer this"
    r"|not (?:in|part of) the documents|no information (?:on|about)|unable to (?:answer|help)"
    r"|no idea|have not been added yet|may not read any)\b",
    re.I,
)


def is_refusal(text: str) -> bool:
    """Return whether a text refuses to answer; an empty one does."""
    start = text.strip()[:_FIRST_CHARACTERS].replace("\u2019", "'")
    return not start or _REFUSAL.search(start) is not None
