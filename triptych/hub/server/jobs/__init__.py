"""Jobs: commands that run once on this machine, as `hf jobs` requests them.

`specification` checks a request and refuses what this hub does not have (images, buckets, ports),
`records` are the rows, `runner.Jobs` runs what is queued, `http/jobs.py` has the routes.
"""
