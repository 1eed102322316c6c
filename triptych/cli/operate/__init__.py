"""Commands that start, stop and check everything on this machine."""
