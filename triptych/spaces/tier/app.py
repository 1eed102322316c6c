"""Serve the model named by MODEL_ID and MODEL_VERSION as one tier."""

from triptych.panels.tier import launch

launch()
