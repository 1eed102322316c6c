"""WING 1, the language model: text, tensors, runs. torch lives here and nowhere else."""

from triptych.config import environment

environment.share_cores()
