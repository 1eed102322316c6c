"""One timer bounds many waits as `asyncio.timeout` bounds each of them."""

import asyncio
import time

import pytest

from triptych.processes.idle_clock import IdleClock


async def _outcome_of(waits_s: list[float], limit_s: float) -> list[str]:
    seen = []
    with IdleClock(limit_s) as idle:
        for wait_s in waits_s:
            try:
                await idle.wait(asyncio.sleep(wait_s))
                seen.append("came")
            except TimeoutError:
                seen.append("late")
                break
    return seen


def test_waits_that_are_shorter_than_the_limit_pass_however_many_there_are() -> None:
    assert asyncio.run(_outcome_of([0.03] * 10, 0.1)) == ["came"] * 10


def test_a_wait_that_is_longer_ends_with_a_timeout_and_the_task_goes_on() -> None:
    async def run() -> tuple[list[str], int]:
        seen = await _outcome_of([0.01, 5.0], 0.1)
        await asyncio.sleep(0)  # a cancellation that was left over would come here
        task = asyncio.current_task()
        assert task is not None
        return seen, task.cancelling()

    assert asyncio.run(run()) == (["came", "late"], 0)


def test_time_between_two_waits_does_not_count() -> None:
    async def run() -> str:
        with IdleClock(0.05) as idle:
            await idle.wait(asyncio.sleep(0.01))
            time.sleep(0.1)  # a slow client may even hold the loop
            await asyncio.sleep(0.1)
            await idle.wait(asyncio.sleep(0.01))
        return "whole"

    assert asyncio.run(run()) == "whole"


def test_a_cancellation_from_outside_stays_a_cancellation() -> None:
    async def run() -> None:
        async def waiting() -> None:
            with IdleClock(30) as idle:
                await idle.wait(asyncio.sleep(30))

        task = asyncio.create_task(waiting())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_the_end_of_an_iterator_passes_through() -> None:
    async def run() -> list[int]:
        async def numbers():  # type: ignore[no-untyped-def]
            yield 1
            yield 2

        iterator, seen = numbers(), []
        with IdleClock(1) as idle:
            while True:
                try:
                    seen.append(await idle.wait(anext(iterator)))
                except StopAsyncIteration:
                    return seen

    assert asyncio.run(run()) == [1, 2]
