"""The errors that every part of the package raises."""

from __future__ import annotations

from typing import ClassVar


class TriptychError(Exception):
    """An error with what went wrong, what to do next, and whether a retry can help."""

    default_code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code
        self.retryable = self.default_retryable if retryable is None else retryable

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class UsageError(TriptychError):
    """The command line or the request is wrong."""

    default_code = "usage"
    exit_code = 2


class ConfigError(UsageError):
    """A setting is wrong; names it, its value, the allowed range and the nearest valid name."""

    default_code = "config"


class StorageError(TriptychError):
    """A file or folder cannot be read, written or locked."""

    default_code = "storage"


class ProcessError(TriptychError):
    """A child process could not be started, or died."""

    default_code = "process"


class LearningError(TriptychError):
    """Company knowledge, patterns or the loop of feedback cannot go on."""

    default_code = "learning"


class LearningUnavailable(LearningError):
    """The gateway that the loop works with does not answer."""

    default_code = "learning_unavailable"
    exit_code = 3
    default_retryable = True
