"""A card says what the files say, in the hub's own formats, and nothing about this machine."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from triptych.errors import PublishRefused
from triptych.hub.cards import (
    CURVE_FILE,
    Labels,
    eval_results,
    human_count,
    model_card,
    training_curve,
)
from triptych.hub.record import Record, find_checkpoint, milestones, model_files, read_record
from triptych.hub.repository import Repo

REPO = Repo("acme/tale-10k")
LABELS = Labels("apache-2.0", ("en",), "acme/tales", "acme/base")


@pytest.fixture(scope="module")
def record(run_folder: Path) -> Record:
    return read_record(run_folder / "checkpoints" / "step-00000008")


@pytest.fixture(scope="module")
def card(record: Record) -> str:
    return model_card(record, REPO, LABELS, record.evaluation)


def test_the_record_is_what_the_run_wrote(record: Record, run_folder: Path) -> None:
    evals = [
        event
        for line in (run_folder / "events.jsonl").read_text().splitlines()
        if (event := json.loads(line))["type"] == "eval"
    ]
    assert record.evaluation is not None
    assert record.evaluation.loss == evals[-1]["val/loss"]
    assert record.evaluation.whole_split
    assert record.step == 8
    assert record.tokens_seen == 8 * 128
    assert record.run["run_id"] == run_folder.name
    assert record.corpus is not None
    assert record.corpus["fingerprint"] == record.run["data_fingerprint"]
    assert record.seconds is not None
    assert 0 < record.seconds < 600


def test_parameters_are_counted_from_the_weights_themselves(record: Record) -> None:
    from triptych.lm.model.checkpoint import load_model

    assert record.weights.parameters == load_model(record.folder).config.num_parameters


def test_the_hubs_own_reader_finds_every_fact_in_the_front_matter(
    card: str, record: Record
) -> None:
    data = ModelCard(card).data

    assert (data.license, data.language, data.library_name) == (
        "apache-2.0",
        ["en"],
        "transformers",
    )
    assert (data.base_model, data.datasets) == ("acme/base", ["acme/tales"])
    assert data.pipeline_tag == "text-generation"
    found = {result.metric_type: result.metric_value for result in data.eval_results or []}
    assert record.evaluation is not None
    assert found == {
        "loss": round(record.evaluation.loss, 4),
        "bits_per_byte": round(record.evaluation.bpb, 4),
        "perplexity": round(record.evaluation.perplexity, 4),
    }
    assert data.eval_results is not None
    assert data.model_name == "tale-10k"


def test_evaluations_are_written_in_the_hubs_newer_form_too(record: Record) -> None:
    written = eval_results(record, LABELS, record.evaluation)
    assert written is not None
    entries = parse_eval_result_entries(yaml.safe_load(written))
    assert {entry.task_id for entry in entries} == {"loss", "bits_per_byte"}
    assert {entry.dataset_id for entry in entries} == {"acme/tales"}
    assert eval_results(record, Labels(), record.evaluation) is None


def test_the_card_tells_shape_corpus_training_limits_and_provenance(
    card: str, record: Record, corpus: Path
) -> None:
    manifest = json.loads((corpus / "manifest.json").read_text())
    for fact in (
        f"{record.weights.parameters:,}",
        "Qwen3ForCausalLM",
        manifest["fingerprint"],
        f"| train | {manifest['counts']['train']['documents']} |",
        "steps | 8 of 8",
        "`learning_rate`",
        f"]({CURVE_FILE})",
        "sees at most 512 tokens",
        "not tuned to follow instructions",
        record.run["run_id"],
        next(iter(record.weights.files.values())),
    ):
        assert fact in card
    assert 'from_pretrained("acme/tale-10k")' in card


def test_nothing_published_names_a_folder_of_this_machine(
    card: str, record: Record, tmp_path: Path
) -> None:
    published = card + json.dumps(record.public())
    assert str(tmp_path.parents[1]) not in published
    assert str(Path.home()) + "/" not in published
    assert not re.search(r'"/(tmp|home|root|work|Users)', published)


def test_the_same_record_gives_the_same_bytes(record: Record) -> None:
    again = read_record(record.folder)
    assert model_card(again, REPO, LABELS, again.evaluation) == model_card(
        record, REPO, LABELS, record.evaluation
    )
    assert again.public() == record.public()
    curve = training_curve(record)
    assert curve is not None
    assert curve.startswith(b"\x89PNG")
    assert training_curve(again) == curve


def test_fault_18_the_curve_has_no_background_and_is_read_on_white_and_on_black(
    record: Record,
) -> None:
    import io

    from matplotlib.image import imread

    curve = training_curve(record)
    assert curve is not None
    pixels = imread(io.BytesIO(curve))
    assert pixels[0, 0, 3] == 0 and pixels[-1, -1, 3] == 0
    drawn = pixels[pixels[..., 3] > 0.95][:, :3]
    brightness = drawn @ [0.2126, 0.7152, 0.0722]
    assert brightness.min() > 0.2 and brightness.max() < 0.8


def test_fault_18_every_tier_has_its_own_title() -> None:
    from triptych.cli.serve.tiers import with_title
    from triptych.hub.deployments import app_files
    from triptych.hub.templates import app_folder

    files = app_files(app_folder("tier"))
    text = with_title(files, "Company tier")["README.md"]
    assert isinstance(text, bytes)
    assert b"title: Company tier\n" in text and b"# Company tier\n" in text
    assert b"A tier" not in text and b"sdk: gradio" in text


def test_an_earlier_milestone_knows_nothing_of_what_came_later(run_folder: Path) -> None:
    found = milestones(run_folder)
    assert list(found) == [4, 8]
    early = read_record(found[4])

    assert early.step == 4
    assert early.evaluation is not None
    assert max(event["step"] for event in early.curve) == 4
    assert "checkpoint of step 4" in model_card(early, REPO, Labels(), early.evaluation)


def test_a_checkpoint_without_a_run_has_a_card_without_its_sections(
    record: Record, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, file in model_files(record.folder).items():
        shutil.copy(file, folder / name)
    alone = read_record(folder)
    card = model_card(alone, REPO, Labels(), alone.evaluation)

    assert alone.evaluation is None
    assert "## Architecture" in card
    for absent in ("## Training", "## Evaluation", "model-index", "None", "null"):
        assert absent not in card
    assert training_curve(alone) is None


def test_optimizer_and_trainer_state_stay_home(record: Record) -> None:
    names = set(model_files(record.folder))
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not names & {"optimizer.safetensors", "trainer_state.json", "manifest.json"}


def test_a_run_means_its_best_checkpoint(run_folder: Path) -> None:
    assert find_checkpoint(run_folder).parent == run_folder / "checkpoints"
    assert find_checkpoint(run_folder / "checkpoints" / "step-00000004").name == "step-00000004"


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "not valid JSON"),
        (lambda folder: _cut(folder / "model.safetensors"), "cut short"),
        (lambda folder: _pickle(folder), "pytorch_model.bin"),
    ],
)
def test_a_damaged_checkpoint_is_refused_before_any_upload(
    record: Record, tmp_path: Path, damage: Any, complaint: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(record.folder, folder)
    damage(folder)
    with pytest.raises(PublishRefused, match=complaint):
        read_record(folder)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _pickle(folder: Path) -> None:
    for file in folder.glob("*.safetensors"):
        file.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04N.")


@pytest.mark.parametrize(
    ("count", "text"), [(512, "512"), (35_823_616, "35.8M"), (1.2e9, "1.2B"), (2048, "2.05k")]
)
def test_counts_read_as_people_say_them(count: float, text: str) -> None:
    assert human_count(count) == text
