"""Spaces: what each serves, deploying a model to one, taking it back, restarting, its logs."""

from triptych.panels.console.spaces.routes import routes

__all__ = ["routes"]
