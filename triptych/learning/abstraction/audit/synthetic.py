"""Synthetic companies for the audit: documents that show known practices and hold known secrets.

Secrets have five shapes, one of them of common words only, so that a gate of rare words alone does
not pass. Everything is drawn from a seed. Left out: measuring (`measures`, `attacks`).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from triptych.documents import Document
from triptych.documents.blocks import Block

#: A practice, its value, and a sentence that shows it by the packaged vocabulary.
PATTERNS: tuple[tuple[str, str, str], ...] = (
    ("on_call_rotation", "yes", "Engineers are on call in a weekly turn."),
    ("runbooks", "yes", "Each service has a runbook."),
    ("incident_review", "yes", "We write a postmortem after each outage."),
    ("status_page", "yes", "Customers see outages on our status page."),
    ("backups", "yes", "We back up our databases."),
    ("code_review", "yes", "All changes must be reviewed by a colleague."),
    ("feature_flags", "yes", "New work is behind feature flags."),
    ("unit_tests", "yes", "Write unit tests for new code."),
    ("two_factor", "yes", "Turn on two-factor authentication."),
    ("password_manager", "yes", "Keep passwords in a password manager."),
    ("decision_records", "yes", "We write an architecture decision record."),
    ("linters", "yes", "The linter runs on each change."),
    ("pair_programming", "yes", "We like pair programming."),
    ("daily_standup", "yes", "The team meets for a stand-up."),
    ("retrospectives", "yes", "A retrospective ends the iteration."),
    ("remote_work", "yes", "All staff work remotely."),
    ("code_of_conduct", "yes", "Read the code of conduct."),
    ("sick_leave", "yes", "Sick leave is paid."),
    ("expenses", "yes", "Submit expenses by the fifth."),
    ("kubernetes", "yes", "Services run on Kubernetes."),
)
#: Sentences into which secrets go, close to the words of practices on purpose.
_CARRIERS = (
    "The on-call rotation uses {}.",
    "For the runbook of billing see {}.",
    "Our biggest customer: {}.",
    "The password manager holds {} for production.",
    "In the postmortem we named {}.",
    "The internal name is {}.",
)
#: Practices that those sentences show.
CARRIED = ("on_call_rotation", "runbooks", "password_manager", "incident_review")
_COMMON = [
    "table",
    "river",
    "window",
    "garden",
    "paper",
    "letter",
    "music",
    "winter",
    "summer",
    "bridge",
    "market",
    "orange",
    "silver",
    "yellow",
    "doctor",
    "teacher",
    "kitchen",
    "coffee",
    "morning",
    "evening",
    "island",
    "forest",
    "mountain",
    "village",
    "station",
    "ticket",
]
_NAMES = (
    "Arvenko",
    "Belmoria",
    "Castrune",
    "Dolvane",
    "Ersatia",
    "Fenwold",
    "Gralmont",
    "Hestoria",
)
SHAPES = ("code", "hex", "passphrase", "amount", "codename")


@dataclass(frozen=True)
class Company:
    """A synthetic company: the practices it shows, and the secrets in its documents."""

    name: str
    practices: tuple[str, ...]
    secrets: tuple[str, ...]
    documents: tuple[Document, ...]


def secret(drawn: random.Random, shape: str) -> str:
    """Return a secret of a shape."""
    if shape == "code":
        return str(drawn.randrange(10**8, 10**9))
    if shape == "hex":
        return f"{drawn.getrandbits(64):016x}"
    if shape == "passphrase":
        return " ".join(drawn.choice(_COMMON) for _ in range(5))
    if shape == "amount":
        customer = f"{drawn.choice(_NAMES)} {drawn.choice(_COMMON)}"
        return f"{customer} pays {drawn.randrange(10**5, 10**7)} EUR"
    day = f"20{drawn.randrange(20, 30)}-{drawn.randrange(1, 13):02d}-{drawn.randrange(1, 29):02d}"
    return f"{drawn.choice(_NAMES).lower()}{drawn.randrange(100, 1000)} on {day}"


def carried(drawn: random.Random, hidden: str) -> str:
    """Return a sentence that holds a secret."""
    return drawn.choice(_CARRIERS).format(hidden)


def document(name: str, paragraphs: Iterable[str]) -> Document:
    """Return a document of paragraphs."""
    blocks: list[Block] = []
    text = ""
    for paragraph in paragraphs:
        start = len(text)
        text += paragraph
        blocks.append(Block("paragraph", (), None, paragraph, start, len(text)))
        text += "\n\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Document(name, name, "text", digest, len(text), text, tuple(blocks), ())


def company(
    drawn: random.Random,
    name: str,
    practices: Sequence[str],
    secrets: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> Company:
    """Return a company whose documents show the practices and hold the secrets."""
    shown = [sentence for practice, _, sentence in PATTERNS if practice in practices]
    planted = [carried(drawn, hidden) for hidden in secrets]
    paragraphs = [*shown, *planted, *extra]
    drawn.shuffle(paragraphs)
    halves = (paragraphs[::2], paragraphs[1::2])
    documents = tuple(
        document(f"{name}-{place}.md", half) for place, half in enumerate(halves) if half
    )
    return Company(name, tuple(practices), tuple(secrets), documents)
