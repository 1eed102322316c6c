"""Feedback: what users said, beside the answer it is about; export of training examples."""

from triptych.panels.console.feedback.routes import routes

__all__ = ["routes"]
