"""Commands for the hub: publish, pull, Spaces, sync."""
