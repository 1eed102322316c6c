"""The one HTTP face of a model: OpenAI's API and the originals' /api/generate.

`create_app` (in `app`) is all that others use; the pages mount themselves on what it returns.
"""
