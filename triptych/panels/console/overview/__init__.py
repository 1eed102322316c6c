"""The first page of the Console: what needs attention and why, and what happened over time."""

from triptych.panels.console.overview.routes import routes

__all__ = ["routes"]
