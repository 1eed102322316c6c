"""Train models live: everybody signs in, owns their runs and publishes with their own token."""

from triptych.panels.studio.app import launch

launch()
