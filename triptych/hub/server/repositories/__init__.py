"""Repositories as the catalogue knows them: names, visibility, cards, and their routes."""
