"""Compare the models named by the variable MODELS, side by side."""

from triptych.panels.playground.app import launch

launch()
