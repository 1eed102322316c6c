"""Settings of training runs: what is learned from, how long, and with which optimizer.

A field left empty is derived by the recipe (`lm/train/recipe.py`) from the model's shape, the
corpus and the machine; the derived value is shown, saved with the run and never derived again.
Left out: the model's shape (`model`) and the corpus (`data`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

SETTINGS = ConfigDict(extra="forbid", use_attribute_docstrings=True)

Count = Annotated[int, Field(ge=1)]
OptionalCount = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0.0, lt=100.0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


@dataclass(frozen=True, kw_only=True, config=SETTINGS)
class TrainConfig:
    """Settings of training runs."""

    method: Literal["pretrain", "sft", "dpo", "kto"] = "pretrain"
    """`pretrain` learns text; `sft` answers; `dpo` and `kto` which answers are preferred."""

    adapter: Literal["none", "lora"] = "none"
    """`lora` trains a small adapter beside a frozen model; see the section `lora`."""

    data: Path | None = None
    """Corpus folder written by `triptych data build`; a jsonl file for the other methods."""

    init_from: str = ""
    """Checkpoint folder, or repository id on the hub, to continue from; empty starts anew."""

    carry_state: bool = False
    """Go on with the optimizer's state and the place in the data of the run that `init_from` is a
    checkpoint of, as `triptych runs extend` and `branch` do."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """Decides the initial weights, the order of the data and what dropout drops."""

    # How long

    steps: Count | None = None
    """Optimizer steps; derived from `tokens_per_parameter`, `max_epochs` and `budget_s`."""

    tokens_per_parameter: Annotated[float, Field(gt=0.0)] = 20.0
    """Training tokens for each parameter outside the embedding table."""

    max_epochs: Annotated[float, Field(gt=0.0)] = 4.0
    """Passes over the corpus that the derived horizon may take at most."""

    budget_s: Annotated[float, Field(gt=0.0)] | None = None
    """Wall-clock seconds to train; the speed is measured first and the steps follow from it.
    With `steps` too, it is a bound: fewer steps are taken where those would take longer."""

    # A step

    batch_tokens: Count | None = None
    """Tokens in one optimizer step, over all sequences, accumulations and processes."""

    context_length: Annotated[int, Field(ge=2)] | None = None
    """Tokens in one training sequence; at most the model's `max_position_embeddings`."""

    micro_batch: Count | None = None
    """Sequences in one forward pass of one process; the rest of a batch is accumulated."""

    optimizer: Literal["auto", "muon", "adamw", "adam", "sgd"] = "auto"
    """`auto` is `adamw` for answers and where `init_from` is a pretrained model from elsewhere,
    else `muon`, which orthogonalises the updates of matrices and leaves the rest to AdamW."""

    learning_rate: Rate | None = None
    """Peak rate of the matrices (`muon`) or of every parameter (the other optimizers)."""

    embedding_lr: Rate | None = None
    """Peak rate of the embedding table under `muon`; a tied output head shares it."""

    head_lr: Rate | None = None
    """Peak rate of an untied output head under `muon`."""

    gain_lr: Rate | None = None
    """Peak rate of the normalisation gains under `muon`."""

    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
    """Momentum of `muon` and `sgd`."""

    beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """Decay of Adam's first moment."""

    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
    """Decay of Adam's second moment."""

    weight_decay: Annotated[float, Field(ge=0.0)] | None = None
    """Decoupled decay of matrices, in units of the learning rate."""

    grad_clip: Annotated[float, Field(ge=0.0)] = 1.0
    """Largest norm of the gradient of all parameters together; 0 never clips."""

    # The schedule

    schedule: Literal["wsd", "cosine", "linear", "constant"] = "wsd"
    """`wsd` warms up, stays, then decays linearly over the last `cooldown_frac` of the steps."""

    warmup_steps: OptionalCount | None = None
    """Steps over which the rate rises linearly from zero."""

    cooldown_frac: Fraction = 0.5
    """Share of the steps in which `wsd` falls."""

    final_lr_frac: Fraction = 0.0
    """Rate at the last step, as a share of the peak."""

    # Regularisation and averaging

    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """Probability of dropping an activation; derived from the number of epochs."""

    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """Decay per step of the averaged weights that are evaluated and saved; 0 keeps the last."""

    early_stopping: OptionalCount = 0
    """Stop after this many evaluations without a better validation loss; 0 never."""

    # Watching

    eval_every: OptionalCount | None = None
    """Steps between evaluations on the validation split; 0 evaluates at the end only."""

    eval_tokens: Count = 65536
    """Most validation tokens in one evaluation during training; a short run reads fewer, the last
    evaluation the whole split."""

    sample_every: OptionalCount | None = None
    """Steps between samples; 0 samples at the end only."""

    sample_prompts: tuple[str, ...] = ()
    """Texts to continue; empty takes the openings of validation documents."""

    sample_tokens: Count = 64
    """New tokens in one sample."""

    checkpoint_every: OptionalCount | None = None
    """Steps between checkpoints; 0 saves at the end only."""

    keep_last: Count = 2
    """Newest checkpoints kept, besides the best one and the milestones."""

    milestones: tuple[Count, ...] = ()
    """Steps whose checkpoint is kept for good; each is saved even off schedule."""

    # The machine

    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto` takes a GPU if there is one."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the matrix products; weights and optimizer stay float32."""

    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the model with torch.compile; `auto` measures whether the run repays it."""

    threads: OptionalCount = 0
    """CPU threads; 0 takes one per core."""

    gradient_checkpointing: bool = False
    """Keep only each block's input and compute the rest again: less memory, a third more work."""

    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Under torchrun: every process holds the whole model (`ddp`) or a shard of it (`fsdp`)."""
