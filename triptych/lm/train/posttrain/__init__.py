"""Training on answers: SFT, DPO and KTO, of all weights or of a LoRA adapter.

The run itself (events, checkpoints, resume, early stopping) is the one of pretraining.
"""
