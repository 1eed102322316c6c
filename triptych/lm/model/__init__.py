"""The tokenizer, the transformer, LoRA and the checkpoint folder."""
