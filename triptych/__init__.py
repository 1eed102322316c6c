"""Grow your own language models, in three tiers, on infrastructure you own."""

__version__ = "0.1.0"
