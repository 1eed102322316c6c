"""Requests: a list with who, what and why, and one request's whole record."""

from triptych.panels.console.requests.routes import routes

__all__ = ["routes"]
