"""A command that fails tells a page its own message, not the last of its details."""

from __future__ import annotations

import pytest

from triptych.errors import UsageError
from triptych.lm.runs.rights import LOCAL
from triptych.panels.command import _failure, run_triptych
from triptych.panels.visitor import Visitor


def test_an_error_is_the_message_and_its_first_hint_without_progress_and_details() -> None:
    error = _failure(
        [
            "base: acme/m in acme/base",
            "triptych: acme/base does not serve acme/m: the app ended",
            "hint: see its run log",
            "| Traceback",
            "nothing served before, so nothing was put back",
            "hint: `triptych spaces logs acme/base` has all of it",
        ]
    )
    assert error.message == "acme/base does not serve acme/m: the app ended"
    assert error.hint == "see its run log"


def test_a_real_command_that_fails_is_reported_with_its_hint() -> None:
    with pytest.raises(UsageError, match="no command 'publsh'") as caught:
        run_triptych(["publsh"], Visitor(LOCAL), 60)
    assert "triptych publish" in caught.value.hint
