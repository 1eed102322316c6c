"""The Xet protocol: chunked, deduplicated uploads and downloads, every hash verified.

Files arrive as chunks in blocks ("xorbs") and as shards that say which chunks make which file.
Nothing is believed: chunk, block, range and file hashes are recomputed, and the sha256 by which
git knows the file is computed from the bytes themselves before the file exists on this hub.
Source: the public Xet specification.
"""
