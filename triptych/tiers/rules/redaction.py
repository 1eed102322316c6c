"""Take secrets and structured identifiers out of texts before they are stored.

Patterns only, each with the check that its kind allows (Luhn for cards, the remainder for IBANs),
so that no model is needed and nothing is guessed. Names of people and places are not structured;
keeping content at all needs consent.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple

Classification = Literal["non_personal", "personal", "sensitive"]


class Kind(NamedTuple):
    """One kind of thing that is taken out."""

    name: str
    pattern: re.Pattern[str]
    check: Callable[[str], bool]
    classification: Classification


def _always(_: str) -> bool:
    return True


def luhn(text: str) -> bool:
    """Check a card number's last digit."""
    digits = [int(c) for c in text if c.isdigit()]
    if not 12 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    others = [sum(divmod(2 * d, 10)) if i % 2 == 0 else d for i, d in enumerate(digits[-2::-1])]
    return (sum(others) + digits[-1]) % 10 == 0


def iban(text: str) -> bool:
    """Check an IBAN's remainder."""
    plain = re.sub(r"\s", "", text).upper()
    if not 15 <= len(plain) <= 34:
        return False
    moved = plain[4:] + plain[:4]
    return int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def _phone(text: str) -> bool:
    digits = sum(c.isdigit() for c in text)
    least = 10 if text.isdigit() else 7
    return least <= digits <= 15 and not re.fullmatch(r"\d{4}-\d{2}-\d{2}.*", text)


def _ipv4(text: str) -> bool:
    return all(int(part) < 256 for part in text.split("."))


KINDS: tuple[Kind, ...] = (
    Kind(
        "private_key",
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
            re.DOTALL,
        ),
        _always,
        "sensitive",
    ),
    Kind(
        "jwt",
        re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
        _always,
        "sensitive",
    ),
    Kind(
        "api_key",
        re.compile(
            r"\b(?:sk-(?:[a-z]+-)*[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{16,}|tri_[A-Za-z0-9_-]{20,}"
            r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|xox[abprs]-[A-Za-z0-9-]{10,}"
            r"|AKIA[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{35}|glpat-[A-Za-z0-9_-]{16,})"
        ),
        _always,
        "sensitive",
    ),
    Kind(
        "password",
        re.compile(
            r"(?i)\b(?:password|passwd|pwd|secret|api[_-]?key|access[_-]?token)"
            r"\s*(?:is|=|:)\s*(?:\"[^\"]+\"|'[^']+'|[^\s,;]{6,})"
        ),
        _always,
        "sensitive",
    ),
    Kind(
        "email",
        re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+"),
        _always,
        "personal",
    ),
    Kind(
        "iban",
        re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"),
        iban,
        "personal",
    ),
    Kind("iban", re.compile(r"(?i)\b[A-Z]{2}\d{2}[A-Z0-9]{11,30}\b"), iban, "personal"),
    Kind("card", re.compile(r"\b\d(?:[ -]?\d){11,18}\b"), luhn, "sensitive"),
    Kind("ssn", re.compile(r"\b\d{3}-\d{2}-\d{4}\b"), _always, "sensitive"),
    Kind("ip", re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])"), _ipv4, "personal"),
    Kind(
        "ip",
        re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){3,7}(?::?[0-9A-Fa-f]{1,4}){1,4}(?![\w:])"),
        _always,
        "personal",
    ),
    Kind(
        "phone",
        re.compile(
            r"(?<![\w/.-])(?:\+|00)?\(?\d{1,4}\)?(?:[ .x-]{0,2}\(?\d{2,5}\)?){2,5}(?![\w/-])"
        ),
        _phone,
        "personal",
    ),
)
#: Names of fields whose value is secret whatever it looks like. `tokens_used` is not one of them.
SECRET_FIELDS = re.compile(
    r"(?i)(?:^|[_-])(?:password|passwd|secret|api[_-]?key|authorization|credential|private[_-]?key"
    r"|(?:access|auth|refresh|bearer|id)[_-]?token|token)$"
)


def redact(text: str) -> str:
    """Replace what is secret or identifies a person by its kind in brackets."""
    for kind in KINDS:
        text = kind.pattern.sub(
            lambda found, kind=kind: (  # type: ignore[misc]
                f"[{kind.name}]" if kind.check(found[0]) else found[0]
            ),
            text,
        )
    return text


@lru_cache(maxsize=4096)
def label(text: str | None) -> str | None:
    """Clean a short text that is not content: a feature's name, a model's."""
    return None if text is None else redact(text)


@lru_cache(maxsize=4096)
def pseudonym(text: str | None) -> str | None:
    """Keep an id that says nothing of a person; give one that does the same other name always."""
    if text is None or redact(text) == text:
        return text
    return "p_" + hashlib.sha256(text.encode()).hexdigest()[:24]


def redact_deep(value: Any) -> Any:
    """Redact every text in a JSON value, and every field that is secret by its name."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {
            name: "[secret]"
            if isinstance(inner, str) and SECRET_FIELDS.search(str(name))
            else redact_deep(inner)
            for name, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redact_deep(item) for item in value]
    return value


def classify(value: Any) -> Classification:
    """Return how personal a JSON value is: by what stands in it, never by a word in a field's name.

    `tokens_used` and `description` are not personal data; `api_key` is a secret if it is a text.
    """
    if isinstance(value, str):
        found = [
            k.classification for k in KINDS if any(k.check(m[0]) for m in k.pattern.finditer(value))
        ]
    elif isinstance(value, dict):
        found = [classify(inner) for inner in value.values()]
        found += [
            "sensitive"
            for name, inner in value.items()
            if isinstance(inner, str) and inner and SECRET_FIELDS.search(str(name))
        ]
    elif isinstance(value, (list, tuple)):
        found = [classify(item) for item in value]
    else:
        found = []
    if "sensitive" in found:
        return "sensitive"
    return "personal" if "personal" in found else "non_personal"
