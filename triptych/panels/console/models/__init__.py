"""Models: what was trained from what, measured how, for which tier; publishing a checkpoint."""

from triptych.panels.console.models.routes import routes

__all__ = ["routes"]
