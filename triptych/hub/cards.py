"""Model cards, evaluation files and curves, all written from the run's own record.

A card says only what a file says; a section without facts is left out. The same record gives
the same bytes, so publishing twice changes nothing. Evaluations are written in both of the
hub's forms: `model-index` in the card, and `.eval_results/` where the corpus is a repository.
Left out: reading the record (`record`) and uploading (`publish`).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from triptych.hub.record import Evaluation, Record
from triptych.hub.repository import Repo

CURVE_FILE = "training_curve.png"
RECORD_FILE = "training_record.json"
EVAL_FILE = ".eval_results/held_out.yaml"
# Can be read on white and on black: at least 3.5 to 1 on either.
CURVE_COLOURS = ("#b06a3f", "#3f83b8")
_INK = "#7c7c7c"
# The trainer notes a loss every step; a curve needs no more points than it has pixels.
_CURVE_POINTS = 1000


@dataclass(frozen=True)
class Labels:
    """Hold what the files cannot know: the licence chosen, languages, and related repositories."""

    license: str | None = None
    languages: tuple[str, ...] = ()
    dataset: str | None = None
    base_model: str | None = None


def model_card(record: Record, repo: Repo, labels: Labels, evaluation: Evaluation | None) -> str:
    """Write the README.md of a model repository."""
    front = yaml.safe_dump(
        _front_matter(record, repo, labels, evaluation), sort_keys=False, allow_unicode=True
    )
    sections = (
        _summary(record, repo),
        _use(repo, record),
        _shape(record),
        _corpus(record, labels),
        training_section(record),
        _scores(record, evaluation),
        _limits(record, evaluation),
        provenance(record),
    )
    body = "\n\n".join("\n".join(lines) for lines in map(list, sections) if lines)
    return f"---\n{front}---\n\n{body}\n"


def eval_results(record: Record, labels: Labels, evaluation: Evaluation | None) -> bytes | None:
    """Write the evaluations as the hub's `.eval_results` form; None without a dataset to name."""
    if evaluation is None or labels.dataset is None:
        return None
    notes = _split_note(evaluation)
    entries = [
        {
            "dataset": {"id": labels.dataset, "task_id": task},
            "value": round(value, 4),
            "notes": notes,
        }
        for task, value in (("loss", evaluation.loss), ("bits_per_byte", evaluation.bpb))
    ]
    return yaml.safe_dump(entries, sort_keys=False).encode()


def training_curve(record: Record) -> bytes | None:
    """Draw training and validation loss over tokens as a PNG; None without events."""
    steps = [e for e in record.events if e["type"] == "step" and e["step"] <= (record.step or 0)]
    if len(steps) < 2:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    thinned = steps[:: -(-len(steps) // _CURVE_POINTS)]
    figure = Figure(figsize=(8, 4), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(
        [e["tokens_seen"] for e in thinned],
        [e["train/loss"] for e in thinned],
        color=CURVE_COLOURS[0],
        linewidth=1,
        label="train/loss",
    )
    axes.plot(
        [e["tokens_seen"] for e in record.curve],
        [e["val/loss"] for e in record.curve],
        color=CURVE_COLOURS[1],
        marker="o",
        markersize=3,
        label="val/loss",
    )
    axes.set(xlabel="tokens seen", ylabel="loss (nats per token)")
    axes.grid(alpha=0.3)
    axes.legend(framealpha=0, labelcolor=_INK)
    axes.tick_params(colors=_INK)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    for edge in axes.spines.values():
        edge.set_color(_INK)
    # No background: a card is read on white and on black paper.
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    image = io.BytesIO()
    # Without a software note, the same curve is the same file.
    FigureCanvasAgg(figure).print_png(image, metadata={"Software": None})
    return image.getvalue()


def human_count(count: float) -> str:
    """Write a count as people say it: 35.8M, 1.2B, 512."""
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{count / limit:.3g}{suffix}"
    return f"{count:.0f}"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |"


def _front_matter(
    record: Record, repo: Repo, labels: Labels, evaluation: Evaluation | None
) -> dict[str, Any]:
    parent = labels.base_model or _repository_like(record.run.get("parent"))
    kind = record.run.get("kind")
    values: dict[str, Any] = {
        "language": list(labels.languages) or None,
        "license": labels.license,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["triptych", *([kind] if kind else [])],
        "base_model": parent,
        "datasets": [labels.dataset] if labels.dataset else None,
    }
    if evaluation is not None:
        values["model-index"] = [_model_index(repo, labels, record, evaluation)]
    return {key: value for key, value in values.items() if value is not None}


def _model_index(
    repo: Repo, labels: Labels, record: Record, evaluation: Evaluation
) -> dict[str, Any]:
    fingerprint = str(record.run.get("data_fingerprint") or "unknown")[:12]
    metrics = (
        ("loss", evaluation.loss, "Loss (nats per token)"),
        ("bits_per_byte", evaluation.bpb, "Bits per byte"),
        ("perplexity", evaluation.perplexity, "Perplexity"),
    )
    return {
        "name": repo.repo_id.partition("/")[2],
        "results": [
            {
                "task": {"type": "text-generation", "name": "Text generation"},
                "dataset": {
                    "type": labels.dataset or f"corpus-{fingerprint}",
                    "name": f"Held-out documents of corpus {fingerprint}",
                    "split": "val",
                },
                "metrics": [
                    {"type": kind, "value": round(value, 4), "name": name}
                    for kind, value, name in metrics
                ],
            }
        ],
    }


def summary(record: Record) -> str:
    """Return the sentence with which a checkpoint's card begins."""
    if record.is_adapter:
        return f"A LoRA adapter: {human_count(record.weights.parameters)} parameters."
    facts = [f"{human_count(record.weights.parameters)} parameters", _architecture(record)]
    if record.tokens_seen:
        facts.append(f"trained on {human_count(record.tokens_seen)} tokens")
    if record.step is not None:
        facts.append(f"checkpoint of step {record.step:,}")
    return f"A language model: {', '.join(facts)}."


def _summary(record: Record, repo: Repo) -> Iterator[str]:
    yield f"# {repo.repo_id.partition('/')[2]}"
    yield ""
    yield summary(record)


def _use(repo: Repo, record: Record) -> Iterator[str]:
    yield "## How to load it"
    yield ""
    yield "```python"
    yield "from transformers import AutoModelForCausalLM, AutoTokenizer"
    yield ""
    yield f'tokenizer = AutoTokenizer.from_pretrained("{repo.repo_id}")'
    yield f'model = AutoModelForCausalLM.from_pretrained("{repo.repo_id}")'
    yield 'inputs = tokenizer("The", return_tensors="pt")'
    yield "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=40)[0]))"
    yield "```"
    yield ""
    yield f"or `triptych generate {repo.repo_id}`, or `triptych serve {repo.repo_id}`."


def _shape(record: Record) -> Iterator[str]:
    names = (
        "hidden_size num_hidden_layers num_attention_heads num_key_value_heads head_dim"
        " intermediate_size vocab_size max_position_embeddings rope_theta tie_word_embeddings"
    )
    rows = [(f"`{name}`", record.shape[name]) for name in names.split() if name in record.shape]
    stored = ", ".join(f"{human_count(n)} as {kind}" for kind, n in record.weights.dtypes.items())
    yield "## Architecture"
    yield ""
    yield from table(
        ("", ""),
        [
            ("architecture", _architecture(record)),
            ("parameters", f"{record.weights.parameters:,}"),
            ("stored", f"{stored}; {record.weights.size_bytes / 1e6:,.1f} MB"),
            *rows,
        ],
    )


def _corpus(record: Record, labels: Labels) -> Iterator[str]:
    corpus = record.corpus
    if not corpus:
        return
    yield "## Training data"
    yield ""
    if labels.dataset:
        yield f"Published as [{labels.dataset}](/datasets/{labels.dataset})."
        yield ""
    sources = corpus.get("sources", ())
    yield from table(
        ("source", "documents", "bytes"),
        [
            (s["source"].rsplit("/", 1)[-1], f"{s['documents']:,}", f"{s['bytes']:,}")
            for s in sources
        ],
    )
    yield ""
    yield from table(
        ("split", "documents", "tokens", "bytes"),
        [
            (split, *(f"{count.get(unit, 0):,}" for unit in ("documents", "tokens", "bytes")))
            for split, count in corpus.get("counts", {}).items()
        ],
    )
    yield ""
    licences = [(name, f"{count:,}") for name, count in corpus.get("licences", {}).items()]
    yield from table(("licence", "documents"), licences)
    yield ""
    yield f"Data fingerprint `{corpus.get('fingerprint')}`."


def training_section(record: Record) -> Iterator[str]:
    """Yield the lines of a card's section on the run."""
    recipe, training = record.recipe, record.training
    if not recipe:
        return
    rows: list[tuple[str, Any]] = [("steps", f"{record.step:,} of {recipe['steps']:,}")]
    if record.tokens_seen:
        rows.append(("tokens seen", f"{record.tokens_seen:,}"))
    shown = ("batch_tokens", "context_length", "learning_rate", "weight_decay", "warmup_steps")
    rows += [(f"`{n}`", training[n]) for n in ("optimizer", "schedule") if n in training]
    rows += [(f"`{name}`", f"{recipe[name]:,g}") for name in shown if name in recipe]
    rows += [(name, recipe[name]) for name in ("precision", "machine", "device") if name in recipe]
    if "seed" in training:
        rows.append(("`seed`", training["seed"]))
    if record.seconds:
        rows.append(("time", _duration(record.seconds)))
    yield "## Training"
    yield ""
    yield from table(("", ""), rows)
    if record.curve:
        yield ""
        yield f"![Training and validation loss]({CURVE_FILE})"


def _scores(record: Record, evaluation: Evaluation | None) -> Iterator[str]:
    if evaluation is None:
        return
    yield "## Evaluation"
    yield ""
    yield from table(
        ("metric", "value"),
        [
            ("loss (nats per token)", f"{evaluation.loss:.4f}"),
            ("bits per byte", f"{evaluation.bpb:.4f}"),
            ("perplexity", f"{evaluation.perplexity:.2f}"),
        ],
    )
    yield ""
    yield f"Measured on {_split_note(evaluation)}."
    yield from _yardsticks(record)


def _yardsticks(record: Record) -> Iterator[str]:
    """Name what simpler means reach on the same text, where the run's report measured it."""
    report = record.report or {}
    if report.get("step") != record.step:
        return
    means = {
        "unigram_bpb": "token frequencies alone",
        "xz_bpb": "xz",
        "xz_primed_bpb": "xz that has read the training text",
        "before_training_bpb": "this model before training",
    }
    known = report.get("yardsticks") or {}
    rows = [(text, f"{known[name]:.4f}") for name, text in means.items() if name in known]
    if rows:
        yield ""
        yield "For comparison, on the same documents:"
        yield ""
        yield from table(("means", "bits per byte"), rows)


def _limits(record: Record, evaluation: Evaluation | None) -> Iterator[str]:
    yield "## Limits"
    yield ""
    positions = record.shape.get("max_position_embeddings")
    if positions:
        yield f"- It sees at most {positions:,} tokens at once."
    if record.run.get("kind", "pretrain") == "pretrain":
        yield "- It continues text. It was not tuned to follow instructions or to hold a dialogue."
    if record.tokens_seen:
        ratio = record.tokens_seen / record.weights.parameters
        yield (
            f"- It saw {ratio:.3g} tokens for each parameter and knows nothing beyond its corpus. "
            "What it writes may be wrong."
        )
    if evaluation is not None:
        yield (
            "- The figures above hold for the held-out documents of its own corpus; "
            "they do not compare with figures measured on other text."
        )
    yield "- Nothing filters its output, and its biases have not been measured."


def provenance(record: Record) -> Iterator[str]:
    """Yield the lines of a card's section on where the weights come from."""
    yield "## Provenance"
    yield ""
    rows = [
        ("run", record.run.get("run_id")),
        ("begun", record.run.get("created_at")),
        ("continued from", _repository_like(record.run.get("parent"))),
        ("code", record.run.get("code_version") and f"triptych {record.run['code_version']}"),
        *((name, f"sha256 `{digest}`") for name, digest in record.weights.files.items()),
    ]
    yield from table(("", ""), [(name, value) for name, value in rows if value])
    yield ""
    yield f"This card was written from [{RECORD_FILE}]({RECORD_FILE})."


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _split_note(evaluation: Evaluation) -> str:
    part = "all of the" if evaluation.whole_split else "a part of the"
    tokens = f" ({evaluation.tokens:,} tokens)" if evaluation.tokens else ""
    return f"{part} held-out documents of its corpus{tokens}"


def _architecture(record: Record) -> str:
    named = record.shape.get("architectures") or [record.shape.get("model_type", "unknown")]
    return str(named[0])


def _repository_like(parent: object) -> str | None:
    text = str(parent or "").partition("@")[0]
    return text if text.count("/") == 1 and not text.startswith(("/", ".", "~")) else None
