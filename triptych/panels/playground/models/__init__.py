"""The models of the Playground: which are offered, loaded and queued for, and their API."""
