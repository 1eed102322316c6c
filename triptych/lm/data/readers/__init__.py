"""Readers of the sources a corpus is built from: files, datasets of a hub, the Python docs."""
