"""A run in a batch job of a cluster or over ssh, on a disk that both ends see.

`schedulers` speaks the commands of SLURM and ssh, `job_files` writes what is submitted, and
`controller` holds one run's job. The trainer writes the run folder itself, so nothing is copied;
without a shared disk a run trains in a job of a hub (`remote`).
"""
