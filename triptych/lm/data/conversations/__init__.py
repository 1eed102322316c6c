"""Rows for post-training: conversations, preferred answers and labelled ones, as token ids.

`formats` turns six common shapes of a row into one, `masks` marks the trained tokens, `dataset`
reads files, refuses rows with a reason, and holds some out.
"""
