"""The hub over HTTP: one file per protocol, and the pages for people."""
