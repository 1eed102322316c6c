"""Which companies agreed that their patterns are counted: from the gateway, or written down here.

The gateway keeps the consent `abstraction` of each company as a history; the newest word counts.
It is read over HTTP with an administrator's key. Left out: asking a company (the Console does).
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from triptych.errors import LearningError

PURPOSE = "abstraction"
TIMEOUT_S = 10.0


class Consents(Protocol):
    """Read which of some companies agreed."""

    def granted(self, companies: Iterable[str]) -> dict[str, str]:
        """Return the companies that agree now, each with the name of its consent."""
        ...


class RecordedConsents:
    """Consents that an administrator wrote down with `triptych abstraction agree`."""

    def __init__(self, recorded: Mapping[str, str]) -> None:
        self._recorded = dict(recorded)

    def granted(self, companies: Iterable[str]) -> dict[str, str]:
        """Return the companies that agree."""
        return {one: self._recorded[one] for one in companies if one in self._recorded}


class GatewayConsents:
    """Consents as the gateway holds them."""

    def __init__(self, address: str, key: str) -> None:
        self.address = address.rstrip("/")
        self._key = key

    def granted(self, companies: Iterable[str]) -> dict[str, str]:
        """Return the companies whose newest word on `abstraction` is yes.

        Raises: LearningError where the gateway does not answer: without it no company agrees.
        """
        found = {}
        for company in companies:
            newest = self.newest(company)
            if newest is not None and newest.get("granted"):
                found[company] = f"company:{newest['consent_id']}"
        return found

    def newest(self, company: str) -> dict[str, Any] | None:
        """Return a company's newest word on `abstraction`; None where it never gave one.

        Raises: LearningError where the gateway does not answer.
        """
        rows = [row for row in self._history(company) if row.get("purpose") == PURPOSE]
        return max(rows, key=lambda row: int(row["consent_id"]), default=None)

    def _history(self, company: str) -> list[dict[str, Any]]:
        query = urllib.parse.urlencode({"company_id": company})
        request = urllib.request.Request(  # noqa: S310  # the operator's own address
            f"{self.address}/api/consent?{query}", headers={"authorization": f"Bearer {self._key}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                values = json.load(answer)
        except (OSError, ValueError) as error:
            raise LearningError(
                f"the gateway at {self.address} did not answer on {company}'s consent: "
                f"{type(error).__name__}",
                hint="start it: triptych gateway, and give an administrator's key",
            ) from error
        rows: list[dict[str, Any]] = values["history"]
        return rows


class GatewayOrRecorded:
    """The gateway's word on a company where it has one, else what was recorded here.

    A company that an administrator recorded with `triptych abstraction agree` stays in, until it
    gives its own word at the gateway.
    """

    def __init__(self, gateway: GatewayConsents, recorded: Mapping[str, str]) -> None:
        self._gateway = gateway
        self._recorded = {
            name: consent for name, consent in recorded.items() if not consent.startswith("company")
        }

    def granted(self, companies: Iterable[str]) -> dict[str, str]:
        """Return the companies that agree now, each with the name of its consent."""
        found = {}
        for company in companies:
            newest = self._gateway.newest(company)
            if newest is None and company in self._recorded:
                found[company] = self._recorded[company]
            elif newest is not None and newest.get("granted"):
                found[company] = f"company:{newest['consent_id']}"
        return found
