"""What Spaces and Jobs share: isolation, logs, and the one machine they run on."""
