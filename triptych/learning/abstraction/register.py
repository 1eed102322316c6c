"""Who contributes: consent, verification, and the cohorts in which companies enter and leave.

A file that only its owner (the administrator) reads. Companies enter k at a time; when one leaves,
the rest of its cohort waits until k new ones come or k companies left or changed. So two releases
differ by at least k companies, and the release after a withdrawal is the same whichever member of
the cohort withdrew.
Left out: what the companies do (`companies`).
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
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
        # Numbers of counted companies that left or changed since the waiting ones were last let in.
        self._changed: set[int] = set()
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
        self._changed = set(values["changed"])

    def save(self) -> None:
        """Write the register; only its owner can read it."""
        values = {
            "format": FORMAT,
            "next_number": self._next_number,
            "next_cohort": self._next_cohort,
            "changed": sorted(self._changed),
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
        before = (known.industry, known.size, known.verified)
        if (changed.industry, changed.size, changed.verified) != before:
            self._leave(known)
        return self.members[name]

    def strike(self, name: str, practices: tuple[str, ...]) -> None:
        """Leave practices of a company out; its cohort leaves the count and waits."""
        member = self[name]
        if member.struck == tuple(sorted(practices)):
            return
        self.members[name] = replace(member, struck=tuple(sorted(practices)))
        self._leave(member)

    def withdraw(self, name: str) -> Member:
        """Remove a company; the rest of its cohort waits for the next."""
        member = self[name]
        del self.members[name]
        self._leave(member)
        return member

    def suspend(self, name: str) -> None:
        """Take a company and its cohort out of the count; they wait, and still agree."""
        self._leave(self[name])

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

        Members that were counted before wait for as many new ones, or until as many companies left
        or changed: alone they would show an observer of both releases who is missing. A company
        that changes often counts once. Cohorts smaller than `cohort` (k was raised) are made anew.

        Returns: the members that are counted from now on.
        """
        self._break_small(cohort)
        waiting = [
            one
            for one in self.in_order()
            if not one.cohort and one.verified and one.name not in unread
        ]
        new = [one for one in waiting if not one.was_counted]
        back = [one for one in waiting if one.was_counted]
        admitted = self._grouped(new, cohort) if len(new) >= cohort else []
        if admitted:
            # A cohort of new companies takes those that come back along.
            admitted += [replace(one, cohort=admitted[0].cohort) for one in back]
            self._changed.clear()
        elif len(self._changed) >= cohort and len(back) >= cohort:
            admitted = self._grouped(back, cohort)
            self._changed.clear()
        self.members |= {one.name: one for one in admitted}
        return admitted

    def counted(self) -> list[Member]:
        """Return the members whose votes a release counts."""
        return [one for one in self.in_order() if one.cohort]

    def _grouped(self, members: Sequence[Member], least: int) -> list[Member]:
        """Return members in as many new cohorts of at least `least` as there can be."""
        groups = len(members) // least
        first = self._next_cohort
        self._next_cohort += groups
        return [
            replace(one, cohort=first + min(place // least, groups - 1), was_counted=True)
            for place, one in enumerate(members)
        ]

    def _leave(self, member: Member) -> None:
        """Take a member's cohort out of the count; `member` is as it was before it changed."""
        if member.was_counted:
            self._changed.add(member.number)
        if member.cohort:
            self._break(member.cohort)

    def _break_small(self, least: int) -> None:
        sizes = Counter(one.cohort for one in self.counted())
        for cohort, size in sizes.items():
            if size < least:
                self._changed |= {one.number for one in self.counted() if one.cohort == cohort}
                self._break(cohort)

    def _break(self, cohort: int) -> None:
        for name, one in list(self.members.items()):
            if one.cohort == cohort:
                self.members[name] = replace(one, cohort=0)
