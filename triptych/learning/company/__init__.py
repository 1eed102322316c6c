"""A company's documents: read, divided into passages, searched, cited; or a refusal in words.

documents -> `passages` -> `store` (SQLite with FTS5, one file a company) -> `retrieval` ->
`sentences` -> `refusal` -> `answer` -> `checking`. Left out: the models that word an answer (the
gateway calls them) and the parsing of files (`triptych.documents`).
"""
