"""WING 1, the language model: text, tensors, runs. torch lives here and nowhere else."""

from triptych.config import environment

# OpenMP's waiting threads spin, and where anything else wants the cores, a matrix product on two
# threads then takes ten times as long as on one. Read when torch loads, so suggested before.
environment.suggest("OMP_WAIT_POLICY", "passive")
