"""An adapter goes to the hub with its base at a commit, and acts the same wherever it is opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from triptych.cli.resolve import resolve
from triptych.hub.client import Hub
from triptych.hub.publish import publish
from triptych.hub.pull import pull
from triptych.hub.repository import Repo
from triptych.lm.model.adapter_record import find_source

Fresh = Callable[..., Repo]


@pytest.fixture(scope="module")
def adapter_run(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run of SFT that begins from the tale's last checkpoint."""
    from triptych.config import load_config
    from triptych.lm.train.loop import run_to_end
    from triptych.lm.train.trainer import Trainer

    at = tmp_path_factory.mktemp("sft")
    rows = [{"prompt": f"tale {n}?", "completion": f"number {n} {n}."} for n in range(12)]
    (at / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = run_folder / "checkpoints" / "step-00000008"
    settings = (
        "method=sft", "adapter=lora", f"init_from={base}", f"data={at / 'rows.jsonl'}", "steps=6",
        "learning_rate=0.02", "threads=1", "precision=float32", "sample_tokens=2",
    )  # fmt: skip
    config = load_config(None, [f"train.{setting}" for setting in settings])
    run = at / "20260102-000000-answers"
    assert run_to_end(Trainer(config, run, resolve=Path), []) == "finished"
    return run


@pytest.fixture
def base_repo(client: Hub, fresh: Fresh, run_folder: Path) -> Repo:
    repo = fresh()
    publish(client, run_folder / "checkpoints" / "step-00000008", repo, None)
    return repo


def test_a_published_adapter_names_its_base_at_a_commit_and_answers_as_the_run(
    client: Hub, fresh: Fresh, base_repo: Repo, adapter_run: Path, run_folder: Path, triptych: Any
) -> None:
    repo = fresh()
    command = ("publish", str(adapter_run), repo.repo_id, "--base-model", base_repo.repo_id)
    done = triptych(*command, "--json")
    assert done.returncode == 0, done.stderr
    published = json.loads(done.stdout)
    folder = pull(f"{repo}@{published['commit']}", client)
    commit = client.head(base_repo)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == (base_repo.repo_id, commit)
    card = (folder / "README.md").read_text()
    assert f"base_model: {base_repo.repo_id}" in card and commit in card
    for file in folder.iterdir():
        if file.suffix in (".json", ".md"):
            assert str(run_folder.parent) not in file.read_text(), f"{file} names this machine"

    source = find_source(repo.repo_id, resolve)
    assert source.folder.name == commit
    prompt = ("tale 7?", "--chat", "--temperature", "0", "--max-new-tokens", "8")
    answers = {
        reference: triptych("generate", reference, *prompt).stdout
        for reference in (repo.repo_id, str(adapter_run), base_repo.repo_id)
    }
    assert answers[repo.repo_id] == answers[str(adapter_run)] != answers[base_repo.repo_id]
    assert not json.loads(triptych(*command, "--json").stdout)["committed"]


def test_an_adapter_of_a_folder_of_this_machine_is_not_published_without_a_base(
    client: Hub, fresh: Fresh, adapter_run: Path, triptych: Any
) -> None:
    done = triptych("publish", str(adapter_run), fresh().repo_id)
    assert done.returncode == 1
    assert "a folder of this machine" in done.stderr and "--base-model" in done.stderr


def test_a_base_with_other_weights_is_refused(
    client: Hub, fresh: Fresh, adapter_run: Path, run_folder: Path, triptych: Any
) -> None:
    other = fresh()
    publish(client, run_folder / "checkpoints" / "step-00000004", other, None)
    done = triptych("publish", str(adapter_run), fresh().repo_id, "--base-model", other.repo_id)
    assert done.returncode == 1 and "has other weights" in done.stderr
    folder = str(run_folder / "checkpoints" / "step-00000004")
    done = triptych("eval", str(adapter_run), "--probe", "--base", folder)
    assert done.returncode == 1 and "are not those that" in done.stderr


def test_eval_and_compare_take_an_adapter_as_a_model(
    client: Hub, adapter_run: Path, run_folder: Path, tmp_path: Path, triptych: Any
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("number 5 5. number 6 6. number 7 7.")
    scored = json.loads(triptych("eval", str(adapter_run), "--text", str(text), "--json").stdout)
    chart = str(tmp_path / "chart.png")
    both = triptych(
        "compare", str(adapter_run), str(run_folder), "--text", str(text), "--json", "--out", chart
    )
    bits = [evaluation["bpb"] for evaluation in json.loads(both.stdout)]
    assert bits[0] == pytest.approx(scored["bpb"]) and bits[0] < bits[1] - 0.1
    probed = json.loads(triptych("eval", str(adapter_run), "--probe", "--json").stdout)
    assert probed["missed"] < 0.1 * probed["recorded"]


def test_a_zeroed_adapter_is_not_published(
    client: Hub, fresh: Fresh, base_repo: Repo, adapter_run: Path, tmp_path: Path, triptych: Any
) -> None:
    import shutil

    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "zeroed"
    shutil.copytree(resolve(str(adapter_run)), folder)
    weights = folder / "adapter_model.safetensors"
    save_file({name: 0 * value for name, value in load_file(weights).items()}, weights)
    repo = fresh()
    done = triptych("publish", str(folder), repo.repo_id, "--base-model", base_repo.repo_id)
    assert done.returncode == 1 and "does not act as it was trained" in done.stderr
    assert not client.exists(repo)
