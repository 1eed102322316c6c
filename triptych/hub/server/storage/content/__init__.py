"""Large files: whole ones by their sha256, and those of the Xet protocol as chunks.

Xet files arrive as chunks in blocks ("xorbs") and as shards that list which chunks make which
file. Nothing is trusted: chunk, block, range and file hashes are computed again, and so is the
sha256 by which git knows the file, before the file exists on this hub.
Source: the public Xet specification.
"""
