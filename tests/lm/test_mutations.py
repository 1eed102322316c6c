"""The tests catch the faults that a language model hides best: each is planted and found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.prove, pytest.mark.timeout(900)]

# what is broken: file, the sound line, the faulty one, the test that must then fail
FAULTS = {
    "the causal mask": (
        "lm/model/attention.py",
        "is_causal=True",
        "is_causal=False",
        "tests/lm/model/test_loss.py::test_a_later_token_changes_no_earlier_logit",
    ),
    "the causal mask in training": (
        "lm/model/attention.py",
        ".triu(1)",
        ".triu(2)",
        "tests/lm/model/test_attention.py::test_no_position_reads_or_teaches_a_later_one",
    ),
    "the rotary offset": (
        "lm/generate/packed/decoder.py",
        "positions = torch.tensor(lengths + ",
        "positions = torch.tensor([n + 1 for n in lengths] + ",
        "tests/lm/generate/test_torch_engine.py::test_cached_equals_uncached_token_for_token",
    ),
    "the rotary layout of an export": (
        "lm/export/gguf.py",
        ".swapaxes(1, 2).reshape(rows, width)",
        ".reshape(rows, width)",
        "tests/lm/export/test_gguf.py::test_llama_cpp_agrees_on_the_top5_logprobs_to_5e_3",
    ),
    "the pre-tokenizer of an export": (
        "lm/export/gguf.py",
        '{QWEN2_SPLIT_PATTERN: "qwen2"',
        '{QWEN2_SPLIT_PATTERN: "gpt-2"',
        "tests/lm/export/test_gguf.py"
        "::test_llama_cpp_gives_the_same_token_ids_for_10_000_unicode_strings",
    ),
    "the loss shift": (
        "lm/data/loader.py",
        "return rows[:, :-1], rows[:, 1:]",
        "return rows[:, :-1], rows[:, :-1]",
        "tests/lm/train/test_train_step.py::test_the_loss_of_a_step_is_the_one_transformers_computes",
    ),
    "the data order": (
        "lm/data/loader.py",
        "return divmod(step, batches)",
        "return 0, 0",
        "tests/lm/data/test_loader.py::test_a_step_is_located_without_any_state",
    ),
    "the data order after a resume": (
        "lm/train/trainer.py",
        "self.train_step.step(step, stop_vote=self._stop)",
        "self.train_step.step(self._begun_at(step), stop_vote=self._stop)",
        "tests/lm/train/test_resume.py::test_a_stopped_run_goes_on_bit_for_bit",
    ),
    "the optimizer after a resume": (
        "lm/train/optimizer_step.py",
        "self.optimizers.load_state_tensors(rest)",
        "del rest",
        "tests/lm/train/test_resume.py::test_a_stopped_run_goes_on_bit_for_bit",
    ),
    "the numbers of events after a resume": (
        "lm/train/trainer.py",
        'self._seq = state["seq"]',
        "self._seq = 0",
        "tests/lm/train/test_resume.py::test_a_stopped_run_goes_on_bit_for_bit",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, tmp_path: Path, repository: Path) -> None:
    file, sound, faulty, test = FAULTS[fault]
    shutil.copytree(repository / "triptych", tmp_path / "triptych")
    source = tmp_path / "triptych" / file
    text = source.read_text(encoding="utf-8")
    assert text.count(sound) == 1, f"{sound!r} moved; name its line anew"
    text = text.replace(sound, faulty)
    if "_begun_at" in faulty:  # as if a resumed run counted its batches from where it began
        text += "\n\nTrainer._begun_at = lambda self, step: step - _first(self, step)\n"
        text += "def _first(self, step):\n    self.first = getattr(self, 'first', step)\n"
        text += "    return self.first\n"
    source.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test],
        cwd=repository,
        # The copy goes before the checkout, which must not be on the path by itself.
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert "failed" in done.stdout
