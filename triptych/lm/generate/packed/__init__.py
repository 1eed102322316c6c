"""The torch engine's own decoder: weights laid out for few rows at a time."""
