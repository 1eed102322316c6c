"""The event log of a run, read back."""

from __future__ import annotations

import json
from pathlib import Path

from triptych.lm.train import events
from triptych.wire.run_events import NUMBERED, last_step, read_events, read_from


def write(path: Path, *lines: dict[str, object]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def step(number: int, seq: int) -> dict[str, object]:
    return {"seq": seq, "type": "step", "step": number}


def test_a_resumed_run_s_repeated_events_are_read_once(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    running = {"seq": 0, "type": "state", "state": "running"}
    write(log, running, step(1, 1), step(2, 2), {**running, "seq": 1}, step(2, 2), step(3, 3))
    assert [event.get("step", "state") for event in read_events(log)] == [
        "state", 1, 2, "state", 3,
    ]  # fmt: skip


def test_a_line_that_is_being_written_is_left_for_the_next_read(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    write(log, step(1, 1))
    whole = log.stat().st_size
    with log.open("a") as file:
        file.write('{"seq": 2, "type": "st')
    found, position = read_from(log, 0)
    assert [event["step"] for event in found] == [1]
    assert position == found[0]["next"] == whole
    with log.open("a") as file:
        file.write('ep", "step": 2}\n')
    assert [event["step"] for event in read_from(log, position)[0]] == [2]


def test_the_last_step_is_found_behind_what_follows_it(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    assert last_step(log) == 0
    write(log, *(step(n, n) for n in range(1, 2000)), {"seq": 2000, "type": "checkpoint"})
    assert last_step(log) == 1999


def test_every_event_of_the_trainer_is_numbered_unless_it_is_about_the_process() -> None:
    kinds = {kind.type for kind in events.Event.__subclasses__()}
    assert kinds - NUMBERED == {"state", "log"}
    assert kinds >= NUMBERED
