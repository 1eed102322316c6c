"""Secrets that an admin enters: sealed before they are stored, opened only where they are sent.

AES-256-GCM, with the secret's name bound to it so that one cannot be put in another's place. The
key comes from `TRIPTYCH_SECRETS_KEY` (32 bytes as base64; several machines on one database share
it), else from a file that only its owner can read, made at the first secret.
"""

from __future__ import annotations

import base64
import binascii
import logging
import secrets
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from triptych.config import environment
from triptych.durable import write_atomic
from triptych.errors import ConfigError, StorageError

logger = logging.getLogger("triptych.gateway")

KEY_VARIABLE = "TRIPTYCH_SECRETS_KEY"
_KEY_BYTES = 32
_NONCE_BYTES = 12
#: A shorter secret shows nothing of itself.
_SHOWS_ITS_END = 20


class Vault:
    """Seal and open secrets with one key."""

    def __init__(self, home: Path) -> None:
        self._path = home / "gateway" / "secrets-key"
        self._cipher: AESGCM | None = None

    def __repr__(self) -> str:
        return "Vault()"

    def seal(self, name: str, value: str) -> bytes:
        """Encrypt a secret under its name.

        Raises: ConfigError for a key that is none, StorageError.
        """
        cipher = self._open(make=True)
        assert cipher is not None
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + cipher.encrypt(nonce, value.encode(), name.encode())

    def open_all(self, sealed: Mapping[str, bytes]) -> dict[str, str]:
        """Decrypt what this key can open; the rest is left out, with a warning."""
        if not sealed:
            return {}
        found = {}
        cipher = self._open(make=False)
        for name, box in sealed.items():
            try:
                if cipher is None:
                    raise InvalidTag
                nonce, text = box[:_NONCE_BYTES], box[_NONCE_BYTES:]
                found[name] = cipher.decrypt(nonce, text, name.encode()).decode()
            except InvalidTag:
                logger.warning("the secret %s was sealed with another key: enter it again", name)
        return found

    def _open(self, *, make: bool) -> AESGCM | None:
        if self._cipher is None:
            given = environment.secret(KEY_VARIABLE)
            text = given.reveal() if given else self._kept(make=make)
            if text:
                self._cipher = AESGCM(_key(text))
        return self._cipher

    def _kept(self, *, make: bool) -> str:
        try:
            return self._path.read_text("ascii").strip()
        except FileNotFoundError:
            if not make:
                return ""
        except OSError as error:
            raise StorageError(f"{self._path} cannot be read: {error.strerror}") from error
        text = base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self._path, text + "\n", private=True)
        return text


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES:
        raise ConfigError(
            f"{KEY_VARIABLE} is not 32 bytes as base64", hint="openssl rand -base64 32 makes one"
        )
    return key


def hint_of(value: str) -> str:
    """Return what may be shown of a secret, so that a person recognises it."""
    return f"…{value[-4:]}" if len(value) >= _SHOWS_ITS_END else "…"
