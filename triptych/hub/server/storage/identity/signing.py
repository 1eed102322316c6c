"""Signed statements about people, as OpenID Connect wants them: ES256 and one public key."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from triptych.hub.server.database import Database
from triptych.secrets import Vault

ALGORITHM = "ES256"
_FACT = "oauth_signing_key"
_WORD_BYTES = 32


def sign_statement(database: Database, vault: Vault, claims: dict[str, Any]) -> str:
    """Return claims as a signed JSON Web Token."""
    key = _key(database, vault)
    header = {"alg": ALGORITHM, "typ": "JWT", "kid": _public(key)["kid"]}
    signed = f"{_encode(_compact(header))}.{_encode(_compact(claims))}"
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    signature = r.to_bytes(_WORD_BYTES, "big") + s.to_bytes(_WORD_BYTES, "big")
    return f"{signed}.{_encode(signature)}"


def public_keys(database: Database, vault: Vault) -> dict[str, Any]:
    """Return what statements are checked with."""
    return {"keys": [_public(_key(database, vault))]}


def _key(database: Database, vault: Vault) -> ec.EllipticCurvePrivateKey:
    row = database.one("SELECT value FROM facts WHERE name = ?", _FACT)
    if row is None:
        fresh = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        sealed = base64.b64encode(vault.seal(_FACT, fresh.decode())).decode()
        database.write("INSERT OR IGNORE INTO facts VALUES (?, ?)", _FACT, sealed)
        return _key(database, vault)
    pem = vault.open(_FACT, base64.b64decode(row["value"])).encode()
    key = serialization.load_pem_private_key(pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _public(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    x = numbers.x.to_bytes(_WORD_BYTES, "big")
    y = numbers.y.to_bytes(_WORD_BYTES, "big")
    return {
        "kty": "EC",
        "crv": "P-256",
        "x": _encode(x),
        "y": _encode(y),
        "use": "sig",
        "alg": ALGORITHM,
        "kid": hashlib.sha256(x + y).hexdigest()[:16],
    }


def _compact(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
