"""Random kills, pauses and restarts: every state true, every run bit-identical to a calm one."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from triptych.config.runs import RunsConfig
from triptych.lm.runs.store import Run, RunStore
from triptych.lm.runs.supervisor import RunSupervisor

from .storm import Storm, kept, said

DEVICES = ("cpu", "cpu:1")
CONFIG = RunsConfig(devices=DEVICES, resume_interrupted=False, grace_s=20.0)
OFTEN = ("train.checkpoint_every=10", "train.dropout=0.1", "train.ema_decay=0.9")


def test_a_short_storm_changes_nothing(
    store: RunStore, request_for, calm: Callable[..., Run]
) -> None:
    expected = calm(200, *OFTEN)
    run_id = store.create(request_for(200, *OFTEN)).run_id
    storm = Storm(store, CONFIG, seed=3)
    assert storm.weather([run_id], 6) > 1
    storm.calm_down([run_id], seconds=120)
    storm.supervisor.close()
    assert said(store.get(run_id)) == said(expected), storm.done
    assert kept(store.get(run_id)) == kept(expected), storm.done


@pytest.mark.prove
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("events", [200])
def test_a_stormy_day_ends_as_a_calm_one(
    store: RunStore,
    request_for,
    calm: Callable[..., Run],
    proven: Callable[..., None],
    events: int,
) -> None:
    steps = 12 * events
    started_s = time.monotonic()
    expected = calm(steps, *OFTEN)
    stormy = [store.create(request_for(steps, *OFTEN, name=f"{n}")).run_id for n in range(2)]
    storm = Storm(store, CONFIG, seed=events)
    assert storm.weather(stormy, events) == events, "the runs were over too soon"
    storm.calm_down(stormy, seconds=3600)
    storm.supervisor.close()
    runs = [store.get(run_id) for run_id in stormy]
    for run in runs:
        assert said(run) == said(expected), storm.done
        assert kept(run) == kept(expected), storm.done
    found = {
        **storm.found(),
        "simulated hours": 24,
        "minutes it took": round((time.monotonic() - started_s) / 60, 1),
        "runs": len(runs),
        "steps of each": steps,
        "workers started": sum(int(run.worker["ticket"]) for run in runs),
        "states that did not agree with the process table": 0,
        "numbered events of each run, equal in every value": len(said(expected)),
        "differing bytes of weights and optimizer": 0,
    }
    proven("disturbances", f"{events} events here", found)


@pytest.mark.prove
def test_a_run_spread_over_two_processes_is_a_run_like_any_other(
    store: RunStore, request_for
) -> None:
    spread = store.create(request_for(12, backend="torchrun"))
    alone = store.create(request_for(12))
    with RunSupervisor(store, RunsConfig(devices=DEVICES)) as supervisor:
        deadline = time.monotonic() + 300
        while supervisor.tick():
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert store.get(spread.run_id).state == store.get(alone.run_id).state == "succeeded"
    assert store.get(spread.run_id).record["processes"] == 2
    assert [e["type"] for e in said(store.get(spread.run_id))] == [
        e["type"] for e in said(store.get(alone.run_id))
    ]


def test_an_unknown_back_end_fails_the_run_in_words(store: RunStore, request_for) -> None:
    run = store.create(request_for(5, backend="cloud"))
    with RunSupervisor(store, RunsConfig()) as supervisor:
        supervisor.tick()
    ended = store.get(run.run_id)
    assert ended.state == "failed" and "no backend 'cloud'" in ended.message
