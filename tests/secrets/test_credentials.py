"""The first admin's credential is chosen or made, never guessable, and on disk before in use."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from triptych.errors import UsageError
from triptych.secrets import FirstAdmin, refuse_guessable

VARIABLE = "TRIPTYCH_TEST_ADMIN"
GOOD = "tri_9fK2-vLq8sYw3ZpD7xR1-mB6"


def first(folder: Path) -> FirstAdmin:
    return FirstAdmin("admin key", VARIABLE, folder / "key", lambda: secrets.token_hex(20))


@pytest.mark.parametrize(
    "guessable", ["admin", "changeme", "x" * 40, "tri_default", "a b" * 20, "ab cd" * 9, "ab\n" * 9]
)
def test_a_guessable_credential_is_refused_with_what_to_do(guessable: str) -> None:
    with pytest.raises(UsageError, match="could be guessed") as caught:
        refuse_guessable(guessable, what="key", remedy="let the gateway make one")
    assert "24 random characters" in caught.value.hint
    with pytest.raises(UsageError, match="is empty"):
        refuse_guessable("", what="key", remedy="")
    refuse_guessable(GOOD, what="key", remedy="")


def test_the_environment_wins_over_the_file_and_neither_gives_an_empty_choice(
    tmp_path: Path, monkeypatch
) -> None:
    assert first(tmp_path).chosen() == ""
    (tmp_path / "key").write_text(f"{GOOD}file\n")
    assert first(tmp_path).chosen() == f"{GOOD}file"
    monkeypatch.setenv(VARIABLE, GOOD)
    assert first(tmp_path).chosen() == GOOD
    monkeypatch.setenv(VARIABLE, "changeme")
    with pytest.raises(UsageError, match="guessed"):
        first(tmp_path).chosen()


def test_an_empty_file_is_no_choice_unless_that_is_forbidden(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("")
    assert first(tmp_path).chosen() == ""
    with pytest.raises(UsageError, match="is empty"):
        first(tmp_path).chosen(empty_allowed=False)


def test_what_is_written_is_for_its_owner_only_and_new_each_time(tmp_path: Path) -> None:
    assert first(tmp_path).write(GOOD) == GOOD
    assert (tmp_path / "key").read_text() == GOOD + "\n"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    made = first(tmp_path).write()
    assert made != first(tmp_path).write()
    assert len(made) == 40
