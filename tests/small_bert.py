"""A BERT with random weights, as a folder: its vectors mean little, and are still vectors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors


def save_small_bert(
    folder: Path, texts: Iterable[str], *, width: int = 32, layers: int = 2
) -> Path:
    """Save an encoder that knows the words of some texts; return its folder."""
    from transformers import BertConfig, BertModel

    words = sorted({word for text in texts for word in text.split()})
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(names), hidden_size=width, num_hidden_layers=layers, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=300,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
