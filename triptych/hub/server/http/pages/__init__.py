"""Pages for people: repositories, cards, files, history, Spaces. Plain HTML from this hub alone."""
