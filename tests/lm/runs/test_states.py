"""The state is a function of what is on disk and alive; each row of the drawing is checked."""

from __future__ import annotations

import pytest

from triptych.lm.runs.states import derive


def control(wanted: str, ticket: int = 1) -> dict[str, object]:
    return {"wanted": wanted, "ticket": ticket}


WORKER = {"ticket": 1, "pid": 1}


@pytest.mark.parametrize(
    ("wanted", "ticket", "worker", "trainer", "alive", "state"),
    [
        ("run", 1, None, None, False, "queued"),
        ("pause", 1, None, None, False, "paused"),
        ("cancel", 1, None, None, False, "cancelled"),
        ("run", 1, WORKER, None, True, "starting"),
        ("run", 1, WORKER, "created", True, "starting"),
        ("run", 1, WORKER, "running", True, "running"),
        ("pause", 1, WORKER, "running", True, "stopping"),
        ("cancel", 1, WORKER, "running", True, "stopping"),
        ("pause", 1, WORKER, "stopped", False, "paused"),
        ("cancel", 1, WORKER, "stopped", False, "cancelled"),
        ("run", 1, WORKER, "stopped", False, "paused"),
        ("run", 1, WORKER, "running", False, "interrupted"),
        ("run", 1, WORKER, None, False, "interrupted"),
        ("pause", 1, WORKER, "running", False, "paused"),
        ("run", 2, WORKER, "running", False, "queued"),
        ("run", 2, WORKER, "stopped", False, "queued"),
        ("run", 1, WORKER, "finished", False, "succeeded"),
        ("pause", 1, WORKER, "finished", False, "succeeded"),
        ("run", 1, WORKER, "failed", False, "failed"),
    ],
)
def test_the_state_follows_from_the_files(wanted, ticket, worker, trainer, alive, state) -> None:
    record = {"state": trainer} if trainer else None
    assert derive(control(wanted, ticket), worker, record, alive=alive) == state


def test_a_run_of_the_train_command_has_a_state_without_any_control_file() -> None:
    assert derive(None, None, {"state": "running"}, alive=True) == "running"
    assert derive(None, None, {"state": "running"}, alive=False) == "interrupted"
    assert derive(None, None, {"state": "finished"}, alive=False) == "succeeded"
