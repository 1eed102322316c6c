"""The errors of the wing `lm`."""

from __future__ import annotations

from triptych.errors.base import TriptychError


class LanguageModelError(TriptychError):
    """Any error of the wing `lm`."""

    default_code = "lm"


class DataError(LanguageModelError):
    """A source, a corpus or a tokenizer is unusable."""

    default_code = "data"


class CheckpointError(LanguageModelError):
    """A model folder cannot be loaded or saved."""

    default_code = "checkpoint"


class TrainingError(LanguageModelError):
    """Training stopped; names the reason and the step."""

    default_code = "training"


class GenerationError(LanguageModelError):
    """A prompt cannot be answered."""

    default_code = "generation"


class EvaluationError(LanguageModelError):
    """A checkpoint cannot be evaluated."""

    default_code = "evaluation"


class ExportError(LanguageModelError):
    """A checkpoint cannot be written in another format."""

    default_code = "export"


class RunError(LanguageModelError):
    """A run cannot change its state."""

    default_code = "run"
