"""`triptych abstraction` from documents to an answer, with a real audit, and back by withdrawal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from triptych.cli.main import main


@pytest.fixture
def companies(tmp_path: Path) -> Path:
    folder = tmp_path / "companies"
    for number in range(8):
        (folder / f"firm{number}").mkdir(parents=True)
        text = "# Operations\n\nEngineers are on call in turn.\n\nEach service has a runbook.\n"
        (folder / f"firm{number}" / "handbook.md").write_text(text, "utf-8")
    return folder


def test_from_documents_to_an_answer_and_out_again(
    companies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--home", str(tmp_path / "home")]

    def run(*words: str) -> str:
        assert main(["abstraction", *words, *where]) == 0
        return capsys.readouterr().out

    assert main(["abstraction", "build", "--documents", str(companies), *where]) == 1
    assert "no consent, not read" in capsys.readouterr().err
    out = run("build", "--documents", str(companies), "--all-agree", "--k", "3")
    assert "release 1: 2 cards of 8 companies" in out
    assert "0 of 1440 planted secrets" in out
    asked = run("ask", "how do others handle on-call?", "--company", "firm1")
    assert "At least 6 of 8 companies have people on call" in asked
    assert "Your company: have people on call" in asked
    assert "the sentences below stay here" in run("preview", "firm1").lower()
    assert "passed" in run("audit", "--release", "1")
    assert json.loads(run("vocabulary", "--json"))["version"] == "1"
    withdrawn = run("withdraw", "firm1")
    assert "removed releases: 1" in withdrawn
    # The other two of its cohort wait for new companies.
    assert "release 2: 2 cards of 5 companies; 2 wait" in withdrawn
    assert "firm1" not in run("cards")
    assert "(served)" in run("releases")


def test_a_wrong_k_names_the_floor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["abstraction", "cards", "--k", "2", "--home", str(tmp_path)]) == 1
    assert "floor" in capsys.readouterr().err


def test_a_wrong_industry_names_those_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["abstraction", "agree", "acme", "--industry", "magic", "--home", str(tmp_path)]
    assert main(words) == 2
    assert "public sector" in capsys.readouterr().err
