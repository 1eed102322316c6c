"""One key seals what hub and gateway store; a sealed value opens under its own name only."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from triptych.errors import ConfigError, StorageError
from triptych.secrets import Vault

VARIABLE = "TRIPTYCH_TEST_KEY"
VALUE = "correct horse battery staple"


def vault(folder: Path) -> Vault:
    return Vault(folder / "secret.key", VARIABLE)


def test_a_sealed_value_opens_under_its_name_and_its_key_only(tmp_path: Path, caplog) -> None:
    box = vault(tmp_path).seal("A", VALUE)
    assert VALUE.encode() not in box
    assert box != vault(tmp_path).seal("A", VALUE), "the same value is never sealed the same"
    assert vault(tmp_path).open("A", box) == VALUE
    with pytest.raises(StorageError, match="does not open"):
        vault(tmp_path).open("B", box)
    with pytest.raises(StorageError, match="does not open"):
        vault(tmp_path / "other").load().open("A", box)
    assert vault(tmp_path).open_all({"A": box, "B": box}) == {"A": VALUE}
    assert "enter it again" in caplog.text


@pytest.mark.parametrize("cut", [0, 5, 7, 19, -1])
def test_a_torn_value_is_refused(tmp_path: Path, cut: int) -> None:
    box = vault(tmp_path).seal("A", VALUE)
    with pytest.raises(StorageError, match="does not open"):
        vault(tmp_path).open("A", box[:cut])


def test_reading_makes_no_key_and_sealing_makes_one_for_its_owner_only(tmp_path: Path) -> None:
    assert vault(tmp_path).open_all({"A": b"x" * 40}) == {}
    assert not (tmp_path / "secret.key").exists()
    vault(tmp_path).seal("A", VALUE)
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600


def test_workers_that_make_the_first_key_at_once_agree_on_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        boxes = list(pool.map(lambda _: vault(tmp_path).seal("A", VALUE), range(8)))
    assert [vault(tmp_path).open("A", box) for box in boxes] == [VALUE] * 8


def test_a_key_that_others_can_read_or_of_another_length_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "secret.key"
    vault(tmp_path).load()
    key.chmod(0o644)
    with pytest.raises(StorageError, match="read by others"):
        vault(tmp_path).load()
    key.chmod(0o600)
    for content in (b"dG9vIHNob3J0", b"\xff\xfe", b""):
        key.write_bytes(content)
        with pytest.raises(StorageError, match=r"32 bytes|cannot be read"):
            vault(tmp_path).load()


def test_the_key_may_come_from_the_environment(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, base64.b64encode(os.urandom(32)).decode())
    box = vault(tmp_path).seal("A", VALUE)
    assert not (tmp_path / "secret.key").exists()
    assert vault(tmp_path).open("A", box) == VALUE
    monkeypatch.setenv(VARIABLE, "c2hvcnQ=")
    with pytest.raises(ConfigError, match="32 bytes"):
        vault(tmp_path).seal("A", VALUE)


@pytest.mark.parametrize("writer", ["hub", "gateway"])
def test_what_earlier_development_states_wrote_still_opens(tmp_path: Path, writer: str) -> None:
    vault(tmp_path).load()
    key = base64.b64decode((tmp_path / "secret.key").read_bytes())
    if writer == "hub":
        key = hmac.digest(key, b"triptych hub seal", hashlib.sha256)
    nonce = os.urandom(12)
    old = nonce + AESGCM(key).encrypt(nonce, VALUE.encode(), b"A")
    assert vault(tmp_path).open("A", old) == VALUE
    with pytest.raises(StorageError, match="does not open"):
        vault(tmp_path).open("B", old)


def test_a_signature_depends_on_the_key_and_the_message(tmp_path: Path) -> None:
    signature = vault(tmp_path).sign(b"m")
    assert signature == vault(tmp_path).sign(b"m")
    assert signature != vault(tmp_path).sign(b"n")
    assert signature != vault(tmp_path / "other").sign(b"m")
