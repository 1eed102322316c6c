"""GGUF files as weights: their names and their numbers."""
