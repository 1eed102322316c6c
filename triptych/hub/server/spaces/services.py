"""The objects that all Spaces and Jobs of a hub share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from triptych.config import environment
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


def hidden_folders(hub: Hub) -> tuple[Path, ...]:
    """Return what no workload may see, even inside a folder that it sees: TRIPTYCH_HOME, the hub.

    The outer one comes first, so that what is let in again beneath it stays.
    """
    return tuple(sorted({environment.home(), hub.layout.root}, key=lambda path: len(path.parts)))
