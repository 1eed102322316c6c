"""Secrets at rest: one key, from the environment or a file only its owner can read.

Everything sealed here (Space secrets, signing keys) is authenticated encryption bound to a
context, so that a sealed value copied to another row does not open. The same key also signs
tickets. Left out: who may ask; a value leaves only towards the process that needs it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from triptych.config import environment
from triptych.durable import write_atomic
from triptych.errors import StorageError

KEY_VARIABLE = "TRIPTYCH_HUB_KEY"
_KEY_BYTES = 32
_NONCE_BYTES = 12


class Vault:
    """Seal and open small secrets with the hub's key."""

    def __init__(self, key_file: Path) -> None:
        key = _load_key(key_file)
        self._cipher = AESGCM(_derive(key, b"seal"))
        self._signing_key = _derive(key, b"sign")

    def seal(self, plain: str, context: str) -> bytes:
        """Encrypt a value for one place, named by `context`."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain.encode(), context.encode())

    def open(self, sealed: bytes, context: str) -> str:
        """Decrypt a value that was sealed for the same place.

        Raises: StorageError when the key or the place is another one.
        """
        try:
            plain = self._cipher.decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode()
            )
        except InvalidTag as error:
            raise StorageError(
                f"the secret {context} does not open with this hub's key",
                hint=f"restore {KEY_VARIABLE} or secret.key, or enter the secret again",
            ) from error
        return plain.decode()

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message."""
        return hmac.digest(self._signing_key, message, hashlib.sha256)


def _load_key(path: Path) -> bytes:
    given = environment.secret(KEY_VARIABLE)
    if given:
        return _decode(given.reveal(), KEY_VARIABLE)
    if not path.exists():
        key = secrets.token_bytes(_KEY_BYTES)
        write_atomic(path, base64.b64encode(key) + b"\n", private=True)
    if path.stat().st_mode & 0o077:
        raise StorageError(
            f"{path} can be read by others", hint=f"run: chmod 600 {path}", code="key_exposed"
        )
    return _decode(path.read_text(encoding="ascii").strip(), str(path))


def _decode(text: str, origin: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise StorageError(
            f"{origin} is not a key of {_KEY_BYTES} bytes in base64",
            hint="make one with: openssl rand -base64 32",
        )
    return key


def _derive(key: bytes, purpose: bytes) -> bytes:
    return hmac.digest(key, b"triptych hub " + purpose, hashlib.sha256)
