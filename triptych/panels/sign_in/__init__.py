"""One sign-in for all panels of an address: the session, its routes, and one-time links."""
