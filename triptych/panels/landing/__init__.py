"""The first page: what runs, what is missing with one next button each, and where to go."""
