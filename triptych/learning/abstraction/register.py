"""Who contributes: consent, verification, and the cohorts in which companies enter and leave.

A file that only its owner (the administrator) reads. Companies enter k at a time; when one leaves,
the rest of its cohort waits until k new ones come. So two releases differ by at least k companies,
and the release after a withdrawal is the same whichever member of the cohort withdrew.
Left out: what the companies do (`companies`).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from triptych.durable import write_atomic
from triptych.errors import LearningError

FORMAT = 1
FILE = "register.json"


@dataclass(frozen=True)
class Member:
    """A company that agreed. `id` is opaque; `cohort` 0 is waiting.

    `was_counted` is set once it has been in a cohort: such a company is not new to an observer.
    """

    name: str
    id: str
    number: int
    consent: str
    verified: bool = True
    industry: str = ""
    size: str = ""
    names: tuple[str, ...] = ()
    struck: tuple[str, ...] = ()
    cohort: int = 0
    was_counted: bool = False


class Register:
    """The members, kept in one file."""

    def __init__(self, folder: Path) -> None:
        self.file = Path(folder) / FILE
        self.members: dict[str, Member] = {}
        self._next_number = 1
        self._next_cohort = 1
        if self.file.is_file():
            self._load()

    def _load(self) -> None:
        values = json.loads(self.file.read_text("utf-8"))
        if values.get("format") != FORMAT:
            raise LearningError(f"{self.file} is of format {values.get('format')}")
        for one in values["members"]:
            lists = {"names": tuple(one["names"]), "struck": tuple(one["struck"])}
            self.members[one["name"]] = Member(**{**one, **lists})
        self._next_number = values["next_number"]
        self._next_cohort = values["next_cohort"]

    def save(self) -> None:
        """Write the register; only its owner can read it."""
        values = {
            "format": FORMAT,
            "next_number": self._next_number,
            "next_cohort": self._next_cohort,
            "members": [asdict(one) for one in self.in_order()],
        }
        write_atomic(self.file, json.dumps(values, indent=1), private=True)

    def in_order(self) -> list[Member]:
        """Return the members in the order in which they agreed."""
        return sorted(self.members.values(), key=lambda one: one.number)

    def __getitem__(self, name: str) -> Member:
        if name not in self.members:
            raise LearningError(
                f"{name!r} contributes nothing",
                hint=f"let it agree first: triptych abstraction agree {name}",
            )
        return self.members[name]

    def agree(
        self,
        name: str,
        consent: str,
        *,
        industry: str = "",
        size: str = "",
        names: tuple[str, ...] = (),
        verified: bool = True,
    ) -> Member:
        """Add a company that agreed, or change what is known of it."""
        known = self.members.get(name)
        if known is None:
            known = Member(name, secrets.token_hex(8), self._next_number, consent)
            self._next_number += 1
        changed = replace(
            known, consent=consent, verified=verified, industry=industry or known.industry,
            size=size or known.size, names=names or known.names,
        )  # fmt: skip
        self.members[name] = changed
        if known.cohort and (changed.industry, changed.size) != (known.industry, known.size):
            self._break(known.cohort)
        return self.members[name]

    def strike(self, name: str, practices: tuple[str, ...]) -> None:
        """Leave practices of a company out; its cohort leaves the count and waits."""
        member = self[name]
        if member.struck == tuple(sorted(practices)):
            return
        self.members[name] = replace(member, struck=tuple(sorted(practices)))
        if member.cohort:
            self._break(member.cohort)

    def withdraw(self, name: str) -> Member:
        """Remove a company; the rest of its cohort waits for the next."""
        member = self[name]
        del self.members[name]
        if member.cohort:
            self._break(member.cohort)
        return member

    def suspend(self, name: str) -> None:
        """Take a company and its cohort out of the count; they wait, and still agree."""
        if self[name].cohort:
            self._break(self[name].cohort)

    def keep_only(self, granted: Mapping[str, str]) -> list[Member]:
        """Remove the members whose consent is not granted (any more) and pin the consents.

        Returns: the members that were removed.
        """
        gone = [self.withdraw(name) for name in list(self.members) if name not in granted]
        for name, consent in granted.items():
            if name in self.members:
                self.members[name] = replace(self.members[name], consent=consent)
        return gone

    def admit(self, cohort: int, unread: Collection[str] = ()) -> list[Member]:
        """Put waiting members into cohorts of at least `cohort` new companies each.

        Those in `unread` go on waiting: there is nothing of them to count yet.

        Members that were counted before wait for as many new ones: alone they would show an
        observer of both releases who is missing.

        Returns: the members that are counted from now on.
        """
        waiting = [
            one
            for one in self.in_order()
            if not one.cohort and one.verified and one.name not in unread
        ]
        new = [one for one in waiting if not one.was_counted]
        groups = len(new) // cohort
        if not groups:
            return []
        for place, one in enumerate(new):
            group = self._next_cohort + min(place // cohort, groups - 1)
            self.members[one.name] = replace(one, cohort=group, was_counted=True)
        for one in waiting:
            if one.was_counted:
                self.members[one.name] = replace(one, cohort=self._next_cohort)
        self._next_cohort += groups
        return [self.members[one.name] for one in waiting]

    def counted(self) -> list[Member]:
        """Return the members whose votes a release counts."""
        return [one for one in self.in_order() if one.cohort]

    def _break(self, cohort: int) -> None:
        for name, one in list(self.members.items()):
            if one.cohort == cohort:
                self.members[name] = replace(one, cohort=0)
