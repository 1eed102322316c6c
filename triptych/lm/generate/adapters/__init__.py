"""Adapters chosen per request: how the torch engine adds them, and proof that they act."""
