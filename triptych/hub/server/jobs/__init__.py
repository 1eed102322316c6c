"""Jobs: a command run once on this machine, as `hf jobs` asks for it.

`specification` reads what is asked and says what this hub does not do (images, buckets, ports),
`records` are the rows, `runner.Jobs` runs what is queued, `routes` is the interface.
"""
