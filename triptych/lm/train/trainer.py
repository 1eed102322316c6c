"""A run from its first step to its last, as a stream of events that can be cut anywhere.

The order within a step is fixed: step, checkpoint, evaluation, sample. A checkpoint is the
instant after its step's event, so a resumed run goes on exactly there, with the same numbers.
Left out: one step (`train_step`), the console (`console`) and queues of runs (`lm/runs`).
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from triptych import __version__
from triptych.config import Config
from triptych.durable import FolderLock, require_free_space
from triptych.errors import RunError, TrainingError, TriptychError
from triptych.lm.evaluate.loss import Measurement
from triptych.lm.model.checkpoint import plain_tensors
from triptych.lm.model.tensors import follow_save
from triptych.lm.model.transformer import Transformer
from triptych.lm.train import checkpoints, distribution, probe
from triptych.lm.train.events import Checkpoint, Eval, Event, Log, RunState, Sample, State, Step
from triptych.lm.train.folder import RunFolder, timestamp
from triptych.lm.train.methods import prepare, restore
from triptych.lm.train.run_setup import RunSetup
from triptych.lm.train.setup import Resolve
from triptych.lm.train.speed import Speed
from triptych.lm.train.start import StartLoss, carry_optimizer


class Trainer:
    """Train one run; iterating over `events()` does the work.

    `Trainer(config, folder)` begins a run in an empty folder, `Trainer.resume(folder)` continues
    one. A reader that stops iterating stops the run; the last checkpoint stays.
    """

    def __init__(
        self, config: Config | None, run_dir: Path, *, resolve: Resolve = Path, **record: Any
    ) -> None:
        self.folder = RunFolder(run_dir)
        self._config = config
        self._resolve = resolve
        self._record = record
        self._stop = False
        self._step = 0
        self._seq = 0
        self._best = math.inf
        self._evals_since_best = 0
        self._start = StartLoss()
        self._notes: list[str] = []

    @classmethod
    def resume(cls, run_dir: Path) -> Trainer:
        """Continue a run that was stopped or killed.

        Raises: RunError where the folder is not a run.
        """
        trainer = cls(None, run_dir)
        trainer.folder.read_config()
        return trainer

    def request_stop(self) -> None:
        """Finish the current step, save and end; safe to call from a signal handler."""
        self._stop = True

    def events(self) -> Iterator[Event]:
        """Train, and yield each event as it happens.

        Raises: TrainingError when the loss is not finite; StorageError when the folder is in use
            or the disk is full; ConfigError, DataError and CheckpointError before the first step.
        """
        device = "cpu" if self._config is None else self._config.train.device
        if self._config is None:
            device = str(self.folder.read_config()["recipe"]["device"])
        self.world = distribution.join(probe.choose_device(device))
        lock = FolderLock(self.folder.path / "run.lock")
        try:
            # Everything that can be refused is refused before the folder is touched.
            self.setup = self._set_up()
            if self.world.is_main:
                lock.acquire()
            self.train_step = self.setup.make_step(self.world)
            yield from self._events()
        finally:
            lock.release()
            distribution.leave()

    def _events(self) -> Iterator[Event]:
        step, scheduled = 0, False
        skipped: list[str] = []
        if self._config is None:
            step, skipped, scheduled = self._restore_state()
        else:
            self._begin(self.setup)
        yield self._state("running", step, "resumed" if step else "")
        yield Log(**self._stamp(), level="info", message=self.setup.recipe.summary())
        for message in self._notes:
            yield Log(**self._stamp(), level="info", message=message)
        for message in skipped:
            yield Log(**self._stamp(), level="warning", message=message)
        try:
            yield from self._after_step(step, scheduled)
            yield from self._loop(step)
        except TriptychError as error:
            # A full disk stops a run and does not fail it: with free space again, resume continues
            # from the last checkpoint.
            state: RunState = "stopped" if error.code == "disk_full" else "failed"
            yield self._state(state, self._step, error.message)
            raise

    def _set_up(self) -> RunSetup:
        if self._config is None:
            return restore(self.folder)
        if self.folder.path.exists() and not self.folder.path.is_dir():
            raise RunError(
                f"{self.folder.path} is a file", hint="choose another --run-dir, a folder"
            )
        if self.folder.config.exists():
            raise RunError(
                f"{self.folder.path} already holds a run",
                hint=f"continue it with `triptych train --resume {self.folder.path}`, "
                "or choose another --run-dir",
            )
        setup = prepare(self._config, self._resolve, self.world)
        require_free_space(self.folder.path, 4 * _needed_bytes(setup, {}))
        return setup

    def _begin(self, setup: RunSetup) -> None:
        """Write the folder. The config comes last: a folder with a config is a run."""
        if self.world.is_main:
            shutil.rmtree(self.folder.checkpoints, ignore_errors=True)
            self.folder.checkpoints.mkdir(parents=True)
            self._write_record(setup)
        self._notes = setup.begin(self.folder.path) if self.world.is_main else []
        train = setup.config.train
        if train.carry_state and train.init_from and setup.kind == "pretrain":
            carry_optimizer(self.train_step, train, self._resolve(train.init_from))
        if train.init_from:
            # The checkpoint it starts from may be moved or changed; a copy of step 0 is kept, since
            # a run killed before its first checkpoint resumes from there.
            self._save(0, scheduled=False)
        if self.world.is_main:
            self.folder.write_config(setup.saved_config())

    def _write_record(self, setup: RunSetup) -> None:
        record = {
            "run_id": self.folder.path.name,
            "kind": setup.kind,
            "created_at": timestamp(),
            "parent": setup.config.train.init_from or None,
            "data_fingerprint": setup.data_fingerprint,
            "code_version": __version__,
            "machine": setup.recipe.machine,
            "processes": self.world.size,
            "state": "created",
        }
        self.folder.update_record(**record | self._record)

    def _loop(self, step: int) -> Iterator[Event]:
        recipe = self.setup.recipe
        self._speed = Speed(recipe.batch_tokens)
        while step < recipe.steps and not self._patience_spent():
            result = self.train_step.step(step, stop_vote=self._stop)
            self._step = step = step + 1
            self._refuse_non_finite(result.loss, result.grad_norm, step)
            self._speed.tick()
            yield self._step_event(step, result)
            due = _due(step, recipe.checkpoint_every, recipe.steps)
            scheduled = due or step in self.setup.config.train.milestones
            # A vote counts one step later on all processes, so that all stop after the same step;
            # a single process needs no vote.
            stopping = result.stop_votes > 0 or (self._stop and self.world.size == 1)
            if stopping and step < recipe.steps:
                self._save(step, scheduled)
                yield self._state("stopped", step, "stopped; resume continues from here")
                return
            if scheduled:
                self._save(step, scheduled)
            yield from self._after_step(step, scheduled)
            self._speed.skip()
        message = "early stopping: no better evaluation" if self._patience_spent() else ""
        yield self._state("finished", step, message)

    def _after_step(self, step: int, scheduled: bool) -> Iterator[Event]:
        """Yield the events that are due after a step, in their fixed order.

        A resumed run begins here, not with the next step. A checkpoint is saved before these
        events, so a kill between the two loses them; saving `seq` with the checkpoint gives them
        the same numbers again, and readers count each number once.
        """
        recipe = self.setup.recipe
        if scheduled:
            name = checkpoints.checkpoint_name(step)
            yield Checkpoint(**self._next(), step=step, name=name)
        if step == 0 or _due(step, recipe.eval_every, recipe.steps):
            yield (result := self._evaluate(step))
            if self.setup.config.train.init_from and (
                worse := self._start.compare(step, result.loss, recipe.warmup_steps)
            ):
                yield Log(**self._stamp(), level="warning", message=worse)
        if step and _due(step, recipe.sample_every, recipe.steps):
            yield from self._samples(step)

    def _step_event(self, step: int, result: Any) -> Step:
        recipe = self.setup.recipe
        tok_per_s = self._speed.tok_per_s
        peak = recipe.machine_flops * self.world.size
        return Step(
            **self._next(),
            step=step,
            tokens_seen=self.train_step.tokens_seen(step),
            loss=result.loss,
            lr=result.lr,
            grad_norm=result.grad_norm,
            tok_per_s=round(tok_per_s, 1),
            mfu=round(tok_per_s * recipe.flops_per_token / peak, 4),
            memory_bytes=probe.memory_bytes(recipe.device),
            eta_s=round((recipe.steps - step) * recipe.batch_tokens / tok_per_s, 1),
        )

    def _score(self, most_tokens: int | None) -> Measurement:
        result = Measurement(nats=0.0, tokens=1, text_bytes=1, seconds=1.0)
        with self.train_step.evaluated() as model:
            # A spread model is evaluated by all processes together, on the same rows.
            if self.world.is_main or self.train_step.is_spread:
                result = self.setup.measure(model, most_tokens)
        return self.world.broadcast(result)

    def _evaluate(self, step: int) -> Eval:
        recipe = self.setup.recipe
        # The curve and the best checkpoint compare the same tokens every time; what the whole split
        # scores at the end has names of its own.
        result = self._score(recipe.eval_tokens)
        is_best = result.loss < self._best and (step > 0 or bool(self.setup.config.train.init_from))
        is_last = step == recipe.steps or (not is_best and self._patience_spent(1))
        if is_best or is_last:
            self._keep(step)
        if is_best:
            self._point_best(step)
            self._best, self._evals_since_best = result.loss, 0
        elif step:
            self._evals_since_best += 1
        reads_all = result.tokens >= self.setup.val_tokens
        whole = self._score(None) if is_last and not reads_all else None
        return Eval(
            **self._next(),
            step=step,
            tokens_seen=self.train_step.tokens_seen(step),
            loss=result.loss,
            bpb=result.bpb,
            tokens=result.tokens,
            whole_split=reads_all,
            whole_loss=None if whole is None else whole.loss,
            whole_bpb=None if whole is None else whole.bpb,
            whole_tokens=None if whole is None else whole.tokens,
            margin=result.margin,
            accuracy=result.accuracy,
            kl=result.kl,
            general_bpb=result.general_bpb,
        )

    def _patience_spent(self, more: int = 0) -> bool:
        patience = self.setup.config.train.early_stopping
        return 0 < patience <= self._evals_since_best + more

    def _keep(self, step: int) -> None:
        """Save the step that was just evaluated, unless it is saved already.

        It is saved as it was before its evaluation: a run resumed from it evaluates it again, with
        the same result. So a kill at any moment loses no best checkpoint.
        """
        place = self.folder.checkpoints / checkpoints.checkpoint_name(step)
        if not self.world.broadcast(place.is_dir()):
            self._save(step, scheduled=False)

    def _point_best(self, step: int) -> None:
        if self.world.is_main:
            name = checkpoints.checkpoint_name(step)
            checkpoints.write_pointer(self.folder.checkpoints, "best", name)
            self._prune_checkpoints()

    def _prune_checkpoints(self) -> None:
        train = self.setup.config.train
        checkpoints.prune(
            self.folder.checkpoints, keep_last=train.keep_last, milestones=train.milestones
        )

    def _samples(self, step: int) -> Iterator[Sample]:
        if self.train_step.is_spread:
            return  # generation lays all weights out anew, more than a process may hold
        prompts = self.setup.sample_prompts()
        with self.train_step.evaluated() as model:
            main = self.world.is_main
            texts = self.setup.generate_samples(model, prompts) if main else [""] * len(prompts)
        for prompt, text in zip(prompts, texts, strict=True):
            yield Sample(**self._next(), step=step, prompt=prompt, text=text)

    def _save(self, step: int, scheduled: bool) -> None:
        with self.train_step.evaluated() as model:
            tensors = self.train_step.state_tensors()
            if self.world.is_main:
                self._write(step, model, tensors, scheduled=scheduled)
            elif self.train_step.is_spread:
                follow_save(plain_tensors(model).values())
                follow_save(tensors.values())
        self.world.barrier()

    def _write(
        self, step: int, model: Transformer, tensors: dict[str, Tensor], *, scheduled: bool
    ) -> None:
        """Write a checkpoint and point to it. Shape: `tensors` as `state_tensors` returned them."""
        places = self.folder.checkpoints
        name = checkpoints.checkpoint_name(step)
        state = {
            "step": step,
            "seq": self._seq,
            "scheduled": scheduled,
            "tokens_seen": self.train_step.tokens_seen(step),
            "best_loss": self._best if math.isfinite(self._best) else None,
            "evals_since_best": self._evals_since_best,
            "start_loss": self._start.loss,
        }
        checkpoints.save(
            places / name,
            save_model=lambda folder: self.setup.save_model(folder, model),
            tensors=tensors,
            state=state,
            needed_bytes=_needed_bytes(self.setup, tensors),
        )
        checkpoints.write_pointer(places, "latest", name)
        self._prune_checkpoints()

    def _restore_state(self) -> tuple[int, list[str], bool]:
        """Load the newest valid checkpoint.

        Returns: its step (0 without one), messages on torn ones, and whether its event is due.
        """
        found: checkpoints.VerifiedCheckpoint | None = None
        skipped: list[str] = []
        if self.world.is_main:
            found, skipped = checkpoints.newest(self.folder.checkpoints)
        found, skipped = self.world.broadcast((found, skipped))
        if found is None:
            self._refuse_lost_start()
            return 0, skipped, False
        self.train_step.load_state(self.setup.load_weights(found.folder), found.tensors())
        state = found.state
        self._seq = state["seq"]
        self._best = math.inf if state["best_loss"] is None else state["best_loss"]
        self._evals_since_best = state["evals_since_best"]
        self._start.loss = state.get("start_loss")
        return state["step"], skipped, state["scheduled"]

    def _refuse_lost_start(self) -> None:
        parent = self.setup.config.train.init_from
        if parent:
            raise RunError(
                f"no checkpoint of {self.folder.path} can be read, and it began from {parent}",
                hint=f"start a new run with train.init_from={parent}",
            )

    def _refuse_non_finite(self, loss: float, grad_norm: float, step: int) -> None:
        if math.isfinite(loss) and math.isfinite(grad_norm):
            return
        what = "loss" if not math.isfinite(loss) else "gradient"
        raise TrainingError(
            f"the {what} is not finite at step {step}",
            hint="try half the learning rate, more train.warmup_steps, or "
            "train.precision=float32; the last good checkpoint is in "
            f"{self.folder.checkpoints}",
            code="not_finite",
        )

    def _state(self, state: RunState, step: int, message: str = "") -> State:
        steps = self.setup.recipe.steps
        return State(**self._stamp(), state=state, step=step, steps=steps, message=message)

    def _next(self) -> dict[str, Any]:
        self._seq += 1
        return self._stamp()

    def _stamp(self) -> dict[str, Any]:
        return {"seq": self._seq, "time_s": round(time.time(), 3)}


def _due(step: int, every: int, steps: int) -> bool:
    return step == steps or (every > 0 and step % every == 0)


def _needed_bytes(setup: RunSetup, tensors: dict[str, Any]) -> int:
    """Return the disk space that a checkpoint takes, with a margin of a tenth."""
    held = sum(t.numel() * t.element_size() for t in tensors.values())
    return int(1.1 * (setup.checkpoint_bytes() + held)) + 10_000_000
