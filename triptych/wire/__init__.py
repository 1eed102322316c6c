"""Shapes that cross processes: OpenAI's, server-sent events, run events, the originals' API.

Plain dictionaries and bytes; no HTTP library, no tensor, no database. Servers and clients of the
project both build on these modules, so that what one writes the other reads.
"""
