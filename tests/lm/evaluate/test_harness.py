"""The outside harness runs a small local task on a checkpoint of ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from triptych.cli.main import main
from triptych.errors import EvaluationError

lm_eval = pytest.importorskip("lm_eval")
pytestmark = pytest.mark.filterwarnings("ignore")

TASK = """\
task: small_choice
dataset_path: json
dataset_kwargs:
  data_files:
    test: {questions}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: answer
metric_list:
  - metric: acc
"""

QUESTIONS = [
    {"question": "    def __init__(", "choices": ["self", "%%@#~~^"], "answer": 0},
    {"question": "        return ", "choices": ["\x7f\x7f\x7f", "self"], "answer": 1},
    {"question": "    if ", "choices": ["self", "|}|}|}"], "answer": 0},
]


@pytest.fixture
def task(tmp_path: Path) -> Path:
    questions, file = tmp_path / "questions.jsonl", tmp_path / "small_choice.yaml"
    questions.write_text("".join(json.dumps(q) + "\n" for q in QUESTIONS))
    file.write_text(TASK.format(questions=questions))
    return file


def test_a_local_task_is_scored(checkpoint: Path, task: Path) -> None:
    from triptych.lm.evaluate.harness import run_tasks
    from triptych.lm.generate.torch_engine import TorchEngine
    from triptych.lm.model.checkpoint import load_tokenizer

    engine = TorchEngine.load(checkpoint, dtype="float32")
    scores = run_tasks(engine, load_tokenizer(checkpoint), [str(task)])
    engine.close()
    assert scores["small_choice"]["acc,none"] == 1.0


def test_tasks_run_from_the_command_line(
    checkpoint: Path, task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(checkpoint), "--json", "--limit", "2", "--tasks", str(task)]) == 0
    assert json.loads(capsys.readouterr().out)["small_choice"]["acc,none"] == 1.0


def test_an_unknown_task_is_an_error(checkpoint: Path, tmp_path: Path) -> None:
    from triptych.lm.evaluate.harness import run_tasks
    from triptych.lm.generate.torch_engine import TorchEngine
    from triptych.lm.model.checkpoint import load_tokenizer

    engine = TorchEngine.load(checkpoint, dtype="float32")
    with pytest.raises(EvaluationError, match="no task file"):
        run_tasks(engine, load_tokenizer(checkpoint), [str(tmp_path / "none.yaml")])
    engine.close()
