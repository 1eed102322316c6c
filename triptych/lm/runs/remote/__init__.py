"""A run that trains in a job on another machine, with the same files in its folder here.

`controller` runs here, one process for each run; `entrypoint` runs inside the job; `protocol` is
what both agree on. Left out: the hub that runs jobs and keeps folders (`hub/jobs` is handed in).
"""
