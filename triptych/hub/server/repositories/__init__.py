"""Repositories: the catalogue, creation and deletion, cards, variables, rights to large files."""
