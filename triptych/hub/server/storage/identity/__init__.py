"""Accounts, organisations, tokens, sessions, OpenID Connect, and the access each of them has."""
