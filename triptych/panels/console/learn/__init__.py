"""Learn: one line of steps from judgements to a better model that is served, one button each."""

from triptych.panels.console.learn.routes import routes

__all__ = ["routes"]
