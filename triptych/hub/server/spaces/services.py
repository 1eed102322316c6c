"""The objects that all Spaces and Jobs of a hub share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from triptych.hub.server.storage.hub import Hub
from triptych.processes import Supervisor


@dataclass(frozen=True)
class WorkloadServices:
    """Hold the hub, the supervisor of its processes, and the folder of their files.

    `address` is the hub's own, as a process on this machine reaches it.
    """

    hub: Hub
    supervisor: Supervisor
    folder: Path
    address: str
