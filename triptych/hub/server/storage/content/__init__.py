"""Large files: the store by sha256, the LFS protocol, and how files leave the hub."""
