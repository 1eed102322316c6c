"""Secrets at rest and the first admin: what hub and gateway share.

`Vault` seals values with one key, `refuse_guessable` rejects weak credentials, `FirstAdmin` reads
or makes the first admin's credential. Left out: who may read a secret, and where the sealed bytes
are stored.
"""

from __future__ import annotations

from triptych.secrets.credentials import FirstAdmin, hint_of, refuse_guessable
from triptych.secrets.vault import Vault

__all__ = ["FirstAdmin", "Vault", "hint_of", "refuse_guessable"]
