"""WING 3, the tiered LLM service; reaches models and hub over HTTP only."""
