"""The stages of a Space, as Hugging Face names them, and the runtime that clients read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from triptych.errors import HubError


class Stage(StrEnum):
    """Define the stages of a Space."""

    NO_APP_FILE = "NO_APP_FILE"
    CONFIG_ERROR = "CONFIG_ERROR"
    BUILDING = "BUILDING"
    BUILD_ERROR = "BUILD_ERROR"
    APP_STARTING = "APP_STARTING"
    RUNNING = "RUNNING"
    RUNNING_BUILDING = "RUNNING_BUILDING"
    RUNNING_APP_STARTING = "RUNNING_APP_STARTING"
    RUNTIME_ERROR = "RUNTIME_ERROR"
    SLEEPING = "SLEEPING"
    PAUSED = "PAUSED"
    STOPPED = "STOPPED"
    DELETING = "DELETING"


UNDER_WAY = frozenset(
    {Stage.BUILDING, Stage.APP_STARTING, Stage.RUNNING_BUILDING, Stage.RUNNING_APP_STARTING}
)
FAILED = frozenset({Stage.NO_APP_FILE, Stage.CONFIG_ERROR, Stage.BUILD_ERROR, Stage.RUNTIME_ERROR})
WAKES_ON_REQUEST = frozenset({Stage.SLEEPING, Stage.STOPPED})
_WHILE_SERVING = {
    Stage.BUILDING: Stage.RUNNING_BUILDING,
    Stage.APP_STARTING: Stage.RUNNING_APP_STARTING,
}


def while_serving(stage: Stage) -> Stage:
    """Return the stage's name while the previous version still answers."""
    return _WHILE_SERVING.get(stage, stage)


class SpaceFailed(HubError):
    """Describe at which stage a Space failed, and why."""

    default_code = "space_failed"

    def __init__(self, stage: Stage, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.stage = stage


@dataclass(frozen=True)
class Runtime:
    """Describe a Space's runtime as the hub's clients read it."""

    stage: Stage
    message: str
    flavor: str
    sleep_s: int | None
    sha: str
    domain: str
    restarts: int = 0
    isolation: Mapping[str, str | bool] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Write the runtime down; `sha` is the commit that answers requests now."""
        serving = bool(self.sha)
        answer: dict[str, Any] = {
            "stage": self.stage.value,
            "hardware": {"current": self.flavor if serving else None, "requested": self.flavor},
            "storage": None,
            "gcTimeout": self.sleep_s,
            "replicas": {"current": int(serving), "requested": 1},
            "devMode": False,
            "isolation": dict(self.isolation),
            "domains": [{"domain": self.domain, "stage": "READY"}] if self.domain else [],
        }
        if self.sha:
            answer["sha"] = self.sha
        if self.message:
            answer["errorMessage"] = self.message
        return answer
