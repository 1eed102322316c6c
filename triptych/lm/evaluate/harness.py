"""Benchmark tasks through EleutherAI's evaluation harness: any task it knows, or a task file.

The harness gets log-probabilities and continuations from one of our engines; tasks, few-shot
prompts and metrics are its own. Left out: everything that the harness already does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval import evaluator
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from triptych.config.generate import Sampling
from triptych.errors import EvaluationError
from triptych.lm.generate.engine import Engine, GenerateRequest
from triptych.lm.model.tokenizer import Tokenizer

Request = tuple[tuple[str, str], list[int], list[int]]


class EngineLM(TemplateLM):
    """One of our engines as a model of the harness."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._engine = engine
        self._ids = tokenizer
        self._longest = engine.info.context_length

    @property
    def eot_token_id(self) -> int:
        """Return the token that starts every document."""
        return self._ids.boundary_id

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Encode ordinary text."""
        return self._ids.encode(string)

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        return [self._score(context, continuation) for _, context, continuation in requests]

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Return the log-probability of whole texts, in windows that do not overlap."""
        totals = []
        for request in requests:
            windows = get_rolling_token_windows(
                self.tok_encode(request.args[0]), self.eot_token_id, self._longest - 1, 1
            )
            totals.append(sum(self._score(*make_disjoint_window(window))[0] for window in windows))
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return continuations of prompts, each up to one of its stop strings."""
        return [self._continue(*request.args) for request in requests]

    def _continue(self, prompt: str, options: dict[str, Any]) -> str:
        stop = options.get("until") or []
        new_tokens = min(int(options.get("max_gen_toks", 256)), self._longest // 2)
        sampling = Sampling(
            max_new_tokens=new_tokens,
            temperature=float(options.get("temperature", 0.0)),
            top_p=float(options.get("top_p", 1.0)),
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            seed=0,
        )
        ids = [self.eot_token_id, *self.tok_encode(prompt)[-(self._longest - new_tokens - 1) :]]
        return self._engine.generate(GenerateRequest(prompt=ids, sampling=sampling)).text

    def _score(self, context: list[int], continuation: list[int]) -> tuple[float, bool]:
        ids = [*context, *continuation][-self._longest :]
        tokens = self._engine.score(ids, alternatives=1).tokens[-len(continuation) :]
        likely = sum(token.logprob for token in tokens if not math.isnan(token.logprob))
        greedy = all(
            token.alternatives and token.alternatives[0].token_id == token.token_id
            for token in tokens
        )
        return likely, greedy


def run_tasks(
    engine: Engine, tokenizer: Tokenizer, tasks: Sequence[str], *, limit: int | None = None
) -> dict[str, dict[str, float]]:
    """Run tasks, by name or from YAML files, and return each task's metrics.

    Raises: EvaluationError where the harness knows no such task.
    """
    files = [Path(task) for task in tasks if task.endswith((".yaml", ".yml"))]
    for file in files:
        if not file.is_file():
            raise EvaluationError(f"no task file {file}", hint="check the path")
    names = [task for task in tasks if not task.endswith((".yaml", ".yml"))]
    manager = TaskManager(
        include_path=[str(file.parent) for file in files], include_defaults=bool(names)
    )
    wanted = [*names, *(_task_name(file) for file in files)]
    unknown = [name for name in wanted if not manager.match_tasks([name])]
    if unknown:
        raise EvaluationError(
            f"the harness knows no task {', '.join(unknown)}", hint="see `lm-eval ls tasks`"
        )
    results = evaluator.simple_evaluate(
        EngineLM(engine, tokenizer),
        tasks=wanted,
        limit=limit,
        task_manager=manager,
        bootstrap_iters=0,
        log_samples=False,
    )
    return {
        task: {name: value for name, value in metrics.items() if isinstance(value, int | float)}
        for task, metrics in results["results"].items()
    }


def _task_name(file: Path) -> str:
    for line in file.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "task":
            return value.strip().strip("'\"")
    raise EvaluationError(f"{file} names no task", hint="a task file has a line `task: NAME`")
