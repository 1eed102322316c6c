"""The web pages: they call, they draw, they decide nothing."""
