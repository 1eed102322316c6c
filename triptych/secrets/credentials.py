"""The first admin's credential: chosen by the operator or made here, and never a guessable one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from triptych.config import environment
from triptych.durable import write_atomic
from triptych.errors import UsageError

FEWEST_CHARACTERS = 24
FEWEST_DIFFERENT = 12
#: A shorter secret shows nothing of itself.
_SHOWS_ITS_END = 20


def refuse_guessable(credential: str, *, what: str, remedy: str) -> None:
    """Check that a chosen token or key is long and varied enough.

    `what` names it ("admin key"); `remedy` completes the hint "use ... random characters, or".

    Raises: UsageError with the smallest allowed length.
    """
    enough = len(credential) >= FEWEST_CHARACTERS and len(set(credential)) >= FEWEST_DIFFERENT
    if enough and not any(character.isspace() for character in credential):
        return
    raise UsageError(
        f"this {what} could be guessed" if credential else f"the {what} is empty",
        hint=f"use at least {FEWEST_CHARACTERS} random characters, or {remedy}",
        code="guessable",
    )


def hint_of(value: str) -> str:
    """Return the part of a secret that pages may show: its last four characters when it is long."""
    return f"…{value[-4:]}" if len(value) >= _SHOWS_ITS_END else "…"


@dataclass(frozen=True)
class FirstAdmin:
    """The credential of the first admin: from the environment, from its file, or newly made."""

    what: str
    """How messages call it, such as "admin key"."""

    variable: str
    """Environment variable in which the operator may choose it."""

    file: Path
    """File in which the operator may choose it, and where it is written for its owner only."""

    make: Callable[[], str]
    """Returns a new random one."""

    def chosen(self, *, empty_allowed: bool = True) -> str:
        """Return the credential that the operator chose; empty when there is none.

        With `empty_allowed` an empty file counts as no choice.

        Raises: UsageError for one that could be guessed.
        """
        given = environment.secret(self.variable)
        if given:
            credential = given.reveal()
        elif self.file.exists():
            credential = self.file.read_text(encoding="utf-8").strip()
        else:
            return ""
        if credential or not empty_allowed:
            remedy = f"unset {self.variable} and delete {self.file} to have one made"
            refuse_guessable(credential, what=self.what, remedy=remedy)
        return credential

    def write(self, chosen: str = "") -> str:
        """Write the chosen credential, or a new one, to the file and return it.

        Call it before the credential is stored in the database: a crash in between leaves an
        unused file, never a credential that is lost.
        """
        credential = chosen or self.make()
        write_atomic(self.file, credential + "\n", private=True)
        return credential
