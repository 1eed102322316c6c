"""The model server: OpenAI's API and the originals' /api/generate.

`create_app` (in `app`) is all that others use; the pages mount themselves on what it returns.
"""
