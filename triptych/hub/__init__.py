"""WING 2, where models, data and Spaces live."""
