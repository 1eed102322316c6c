"""Sealed values: AES-256-GCM under one key, each bound to the name it was sealed for.

The key is 32 bytes in base64, from an environment variable or from a file that only its owner
can read, made when first needed. A sealed value starts with a format version; values without one
were written by older development states of hub or gateway and still open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from triptych.config import environment
from triptych.durable import FolderLock, write_atomic
from triptych.errors import ConfigError, StorageError

logger = logging.getLogger("triptych.secrets")

_KEY_BYTES = 32
_NONCE_BYTES = 12
# The first byte of the version-less formats is random, so one byte could not mark a version.
_VERSION_1 = b"tri-v1\x00"


class Vault:
    """Seal and open small secrets with one key, and sign messages with it."""

    def __init__(self, key_file: Path, variable: str) -> None:
        self._file = Path(key_file)
        self._variable = variable
        self._key: bytes | None = None

    def __repr__(self) -> str:
        return "Vault()"

    def load(self) -> Vault:
        """Read the key now, and make the file when there is none.

        Raises: ConfigError or StorageError for a key that is not valid, StorageError for a key
        file that other users can read.
        """
        self._load(make=True)
        return self

    def seal(self, name: str, value: str) -> bytes:
        """Encrypt a value so that it opens under this name only.

        Raises: ConfigError, StorageError.
        """
        nonce = os.urandom(_NONCE_BYTES)
        cipher = AESGCM(_derive(self._load(make=True), b"triptych seal"))
        return _VERSION_1 + nonce + cipher.encrypt(nonce, value.encode(), _bound(name))

    def open(self, name: str, sealed: bytes) -> str:
        """Decrypt a value that was sealed under this name.

        Raises: StorageError when the key or the name is another one.
        """
        try:
            return _decrypt(self._load(make=False), name, sealed)
        except InvalidTag as error:
            raise StorageError(
                f"the secret {name} does not open with the key of this installation",
                hint=f"restore {self._variable} or {self._file}, or enter the secret again",
                code="wrong_key",
            ) from error

    def open_all(self, sealed: Mapping[str, bytes]) -> dict[str, str]:
        """Decrypt every value that this key opens; the others are left out with a warning."""
        found = {}
        for name, box in sealed.items():
            try:
                found[name] = _decrypt(self._load(make=False), name, box)
            except InvalidTag:
                logger.warning("the secret %s was sealed with another key: enter it again", name)
        return found

    def sign(self, message: bytes) -> bytes:
        """Return the signature (HMAC-SHA256) of a message."""
        # the name is the one of the first format, so that issued signatures stay valid
        return hmac.digest(
            _derive(self._load(make=True), b"triptych hub sign"), message, hashlib.sha256
        )

    def _load(self, *, make: bool) -> bytes:
        """Return the key, or no bytes when there is none and none may be made."""
        if self._key is None:
            given = environment.secret(self._variable)
            if given:
                self._key = self._from_environment(given.reveal())
            elif make or self._file.exists():
                self._key = self._from_file()
        return self._key or b""

    def _from_environment(self, text: str) -> bytes:
        key = _decode(text)
        if key is None:
            raise ConfigError(
                f"{self._variable} is not {_KEY_BYTES} bytes in base64",
                hint="make one with: openssl rand -base64 32",
            )
        return key

    def _from_file(self) -> bytes:
        if not self._file.exists():
            # Several workers may need the first key at once; the last to come must not replace it.
            with FolderLock(self._file.with_name(f".{self._file.name}.lock")).wait():
                if not self._file.exists():
                    fresh = base64.b64encode(secrets.token_bytes(_KEY_BYTES))
                    write_atomic(self._file, fresh + b"\n", private=True)
        try:
            mode, text = self._file.stat().st_mode, self._file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(
                f"the key file {self._file} cannot be read: {error}",
                hint="check its owner and its content",
            ) from error
        if mode & 0o077:
            raise StorageError(
                f"{self._file} can be read by others",
                hint=f"run: chmod 600 {self._file}",
                code="key_exposed",
            )
        key = _decode(text)
        if key is None:
            raise StorageError(
                f"{self._file} is not a key of {_KEY_BYTES} bytes in base64",
                hint=f"restore it from a backup, or delete it and enter every secret again:"
                f" rm {self._file}",
            )
        return key


def _decrypt(key: bytes, name: str, sealed: bytes) -> str:
    if not key:
        raise InvalidTag
    if sealed.startswith(_VERSION_1):
        body = sealed.removeprefix(_VERSION_1)
        return _decrypt_with(_derive(key, b"triptych seal"), _bound(name), body)
    # Before version 1: the hub derived a key of its own, the gateway used the key as it is.
    try:
        return _decrypt_with(_derive(key, b"triptych hub seal"), name.encode(), sealed)
    except InvalidTag:
        return _decrypt_with(key, name.encode(), sealed)


def _decrypt_with(key: bytes, bound: bytes, body: bytes) -> str:
    if len(body) <= _NONCE_BYTES:
        raise InvalidTag
    return AESGCM(key).decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], bound).decode()


def _bound(name: str) -> bytes:
    return _VERSION_1 + name.encode()


def _decode(text: str) -> bytes | None:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == _KEY_BYTES else None


def _derive(key: bytes, purpose: bytes) -> bytes:
    return hmac.digest(key, purpose, hashlib.sha256)
