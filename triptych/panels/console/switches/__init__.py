"""Switches: which providers and tiers are on, what a change does, and taking it back."""

from triptych.panels.console.switches.routes import routes

__all__ = ["routes"]
