"""Learn: the recipe, optimizers, schedules, the trainer, its checkpoints and its run folder."""
