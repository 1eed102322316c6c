"""Start, watch, restart, reap: the one supervisor of training runs, Spaces, jobs and servers.

`start(Command)` gives a `Child`: a process group of its own with a log file, which outlives
the process that started it. `Supervisor` adds a thread that watches children, keeps them inside
their limits, restarts them with back-off, and finds what a killed predecessor left behind.
`bind` and `free_port` choose ports. `BackgroundTask` keeps a task of an event loop alive; the
rest is synchronous, and a coroutine calls the few waiting functions (`stop`, `wait`, `close`)
through `asyncio.to_thread`. Left out: what a child does, and isolation (`hub/server/workloads`).
"""

from __future__ import annotations

from triptych.processes.background import BackgroundTask
from triptych.processes.child import Child, Command, Limits, start
from triptych.processes.identity import Identity
from triptych.processes.ports import bind, free_port
from triptych.processes.supervisor import Backoff, Status, Supervisor

__all__ = [
    "BackgroundTask",
    "Backoff",
    "Child",
    "Command",
    "Identity",
    "Limits",
    "Status",
    "Supervisor",
    "bind",
    "free_port",
    "start",
]
