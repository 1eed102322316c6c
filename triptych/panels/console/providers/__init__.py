"""Providers: where requests are answered, tested with a real request; and the secrets they need."""

from triptych.panels.console.providers.routes import routes

__all__ = ["routes"]
