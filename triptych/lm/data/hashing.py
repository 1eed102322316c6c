"""Random-looking numbers that are the same on every machine and every library's version.

The order of training, the split and the shingles all hang on these; a random generator's
stream may change with its library, this arithmetic cannot.
"""

from __future__ import annotations

import hashlib

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def mix(x: np.ndarray) -> np.ndarray:
    """Scramble 64-bit numbers one by one, without collisions.

    Shape: any, kept; uint64.
    Source: SplitMix64 (Steele, Lea, Flood 2014).
    """
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def sequence(count: int, name: str) -> np.ndarray:
    """Return the random-looking numbers that belong to a name.

    Shape: [count] uint64.
    """
    key = np.uint64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))
    return mix(np.arange(1, count + 1, dtype=np.uint64) * _GAMMA + key)


def name_hash(name: bytes) -> int:
    """Hash a name to 64 bits."""
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")
