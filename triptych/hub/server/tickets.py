"""Signed addresses: what a client may do for a while without showing its token again.

Upload addresses (LFS clients send no authorisation there), Xet access tokens and block
addresses are tickets: a purpose, a repository, a subject and an end, signed with the hub's key.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from dataclasses import asdict, dataclass

from triptych.errors import HubRefused
from triptych.secrets import Vault

_SIGNATURE_BYTES = 32


@dataclass(frozen=True)
class Ticket:
    """Grant one purpose on one repository until an end."""

    purpose: str
    repository_id: int
    account_id: int
    subject: str
    expires_at: int


def issue(vault: Vault, ticket: Ticket) -> str:
    """Sign a ticket into a string that is safe in an address."""
    payload = json.dumps(asdict(ticket), separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(vault.sign(payload) + payload).rstrip(b"=").decode()


def check(vault: Vault, text: str, purposes: frozenset[str]) -> Ticket:
    """Return what a ticket grants.

    Raises: HubRefused (401) when it is forged, over, or made for something else.
    """
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise _refusal() from error
    signature, payload = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, vault.sign(payload)):
        raise _refusal()
    ticket = Ticket(**json.loads(payload))
    if ticket.purpose not in purposes or ticket.expires_at <= time.time():
        raise _refusal()
    return ticket


def _refusal() -> HubRefused:
    return HubRefused(401, "This address or access token is not valid, or no longer so.")
