"""WING 1, the language model: text, tensors, runs. torch lives here and nowhere else."""

from triptych.config import environment

# OpenMP's waiting threads spin, and where anything else wants the cores, a matrix product on two
# threads then takes ten times as long as on one. Read when torch loads, so suggested before.
environment.suggest("OMP_WAIT_POLICY", "passive")
# Looking this often first, by OpenMP's own estimate for 30 microseconds, is a compromise: a step of
# generation has fifty such waits, 5 ms instead of 7 for `small` where nothing else wants the cores,
# and 11 beside a training run.
environment.suggest("GOMP_SPINCOUNT", "3000")
