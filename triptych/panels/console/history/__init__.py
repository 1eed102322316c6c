"""The history: who changed what, when, before and after; and whether the record is complete."""

from triptych.panels.console.history.routes import routes

__all__ = ["routes"]
