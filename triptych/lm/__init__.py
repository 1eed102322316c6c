"""WING 1, the language model: text, tensors, runs. torch lives here and nowhere else."""
