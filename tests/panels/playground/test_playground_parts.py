"""The parts of the Playground without a browser: votes, queue, links, code, experiments."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.config import load_config
from triptych.config.generate import Sampling
from triptych.errors import GenerationError, TriptychError, UsageError
from triptych.lm.generate.engine import Token
from triptych.lm.runs.store import RunStore
from triptych.lm.serve.service import TooBusy, UnknownModel
from triptych.panels.playground import controls, permalink, snippets
from triptych.panels.playground.comparison import Column, Comparer, Comparison, Entry
from triptych.panels.playground.experiments import distinct, sureness
from triptych.panels.playground.forwarding import sayings
from triptych.panels.playground.models.loaded_models import LoadedModels
from triptych.panels.playground.models.model_list import ModelList, spread
from triptych.panels.playground.models.queue import AnswerQueue
from triptych.panels.playground.quality_curve import height_at
from triptych.panels.playground.visitor import Visitor
from triptych.panels.playground.votes import Z_95, VoteBook, pairs, record_of, wilson


def comparison(*texts: str, request_ids: tuple[str, ...] = ()) -> Comparison:
    columns = []
    for index, text in enumerate(texts):
        entry = Entry(
            reference=f"acme/m{index}", label=f"m{index}", prompt="The ", sampling=Sampling(seed=1)
        )
        origin = {"request_id": request_ids[index]} if request_ids else {}
        columns.append(Column(entry, text=text, done=True, origin=origin))
    return Comparison(columns)


@pytest.mark.parametrize(("won", "decided"), [(1, 10), (5, 10), (81, 263), (1, 1), (0, 3)])
def test_the_interval_is_wilsons(won: int, decided: int) -> None:
    share = won / decided
    for bound in wilson(won, decided):
        # Its bounds are the proportions from which the observed one lies z standard errors away.
        error = math.sqrt(bound * (1 - bound) / decided)
        assert abs(share - bound) == pytest.approx(Z_95 * error, abs=1e-12)
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_vote_among_four_counts_three_pairs_and_the_last_word_counts(tmp_path: Path) -> None:
    book, held = VoteBook(tmp_path / "votes.jsonl"), comparison("a", "b", "c", "d")
    book.add(record_of(held, 3))
    book.add(record_of(held, 2))
    rates = {(rate.model, rate.against): rate for rate in book.win_rates()}
    assert len(book.votes()) == 1 and len(rates) == 3
    assert rates["acme/m2", "acme/m0"].won == 1
    assert book.win_rates(blind_only=True) == []
    with (tmp_path / "votes.jsonl").open("ab") as file:
        file.write(b'{"torn":')
    book.add(record_of(comparison("x", "y"), "all"))
    assert len(VoteBook(tmp_path / "votes.jsonl").votes()) == 2, "a torn line is cut off"
    assert book.export(tmp_path / "out.jsonl") == 4
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["winner"] for row in rows] == ["b", "b", "a", "all"]
    assert rows[0]["chosen"] == "c" and rows[0]["rejected"] == "a"


def test_a_failed_answer_is_in_no_pair() -> None:
    held = comparison("a", "b")
    held.columns[1].failed = True
    assert list(pairs(record_of(held, 0))) == []


def test_the_gateway_hears_of_each_pair_once_and_of_its_own_answers_only() -> None:
    held = comparison("good", "bad", "worse", request_ids=("", "r1", "r2"))
    told = list(sayings(held, 1, comment="why", correction="best", about=2))
    assert [(request, kind) for request, kind, _, _ in told] == [
        ("r1", "preference"),
        ("r1", "preference"),
        ("r2", "comment"),
        ("r2", "correction"),
    ]
    assert told[0][2] == {"chosen": "bad", "rejected": "good"}
    assert len({feedback_id for _, kind, _, feedback_id in told if kind == "preference"}) == 2
    assert [kind for _, kind, _, _ in sayings(held, "none")] == ["thumb", "thumb"]
    assert list(sayings(comparison("a", "b"), 0, comment="local only")) == []


def test_the_line_is_fair_and_shows_who_is_before() -> None:
    async def play() -> None:
        config = load_config(
            None, ["panels.generations=3", "panels.generations_per_visitor=2", "panels.waiting=6"]
        ).panels
        queue = AnswerQueue(config)
        greedy = [queue.join("greedy") for _ in range(4)]
        assert [ticket.called.is_set() for ticket in greedy] == [True, True, False, False]
        other = queue.join("other")
        assert other.called.is_set(), "one visitor's wishes do not hold up another"
        late = queue.join("late")
        assert not await late.is_called(0.01) and late.ahead == 2
        queue.leave(greedy[0])
        assert greedy[2].called.is_set() and late.ahead == 1
        queue.leave(other)
        assert late.called.is_set() and not greedy[3].called.is_set()
        for _ in range(5):
            queue.join("crowd")
        with pytest.raises(TooBusy):
            for _ in range(3):
                queue.join("crowd too")

    asyncio.run(play())


READINGS = st.sampled_from(["auto", "chat", "text"])


@given(st.text(), st.floats(0, 2), st.booleans(), st.text(), READINGS)
def test_a_link_restores_every_control(
    prompt: str, warm: float, blind: bool, stop: str, read_as: str
) -> None:
    sampling = [warm, 0, 1.0, 0, 1, 64, 1]
    values = [["run/step-1", "acme/base@v1"], prompt, *sampling, stop, read_as, blind]
    written = permalink.write(values)
    assert written == "" or permalink.read(written) == values


def test_an_empty_control_is_its_default_in_a_link() -> None:
    values = [["run/step-1"], "The ", 0.8, 0, 1.0, 0, 1, 64, 1, None, None, False]
    restored = [*values[:9], "", "auto", False]
    assert permalink.read(permalink.write(values)) == restored
    assert permalink.read(json.dumps(values[:10])) == restored


@pytest.mark.parametrize(("was", "read_as"), [(True, "chat"), (False, "text")])
def test_an_older_link_says_by_yes_or_no_whether_it_is_a_chat(was: bool, read_as: str) -> None:
    values = [["run/step-1"], "The ", 0.8, 0, 1.0, 0, 1, 64, 1, "", was, True]
    assert permalink.read(json.dumps(values)) == [*values[:10], read_as, True]


@pytest.mark.parametrize("saved", ["", "[]", "{}", '[["a"],"x"]', '[["a"],1,1,1,1,1,1,1,1]', "["])
def test_what_is_no_comparison_is_left_alone(saved: str) -> None:
    assert permalink.read(saved) is None


def test_a_wrong_control_is_refused_with_words() -> None:
    good = [["a"], "The ", 0.8, 0, 1.0, 0, 1, 64, 1, "", "auto", False]
    config = load_config(None, ["panels.prompt_chars=100"])
    assert controls.read(good, config).sampling.max_new_tokens == 64
    for place, value, words in (
        (0, [], "at least one model"),
        (0, list("abcde"), "at most 4"),
        (1, "", "empty"),
        (1, "x" * 101, "101 characters"),
        (2, 99.0, "temperature"),
        (8, -5, "seed"),
    ):
        with pytest.raises(UsageError, match=words):
            controls.read([*good[:place], value, *good[place + 1 :]], config)


def test_code_holds_any_prompt() -> None:
    prompt = 'It\'s "quoted" \\ $HOME `x` \n\t\u2028 end'
    target = snippets.Target("http://127.0.0.1:1/models/v1", "m")
    for form in (snippets.python, snippets.openai_sdk):
        code = form([target], prompt, Sampling(stop=("\n",)), chat=True)
        found: dict[str, object] = {}
        exec(code.split("for base_url")[0].replace("from openai import OpenAI", ""), found)
        assert found["PROMPT"] == prompt
        assert found["SETTINGS"]["stop"] == ["\n"]  # type: ignore[index]


def test_variety_and_sureness_are_what_their_sources_say() -> None:
    assert distinct("a b a b") == pytest.approx(2 / 3)
    assert math.isnan(distinct("one"))
    tokens = [
        Token(0, b"a", math.log(0.25)),
        Token(1, b"b", math.log(1.0)),
        Token(2, b"", math.nan),
    ]
    assert sureness(tokens) == pytest.approx(0.5)


def test_a_checkpoint_between_two_evaluations_stands_on_the_line() -> None:
    assert height_at([(0.0, 4.0), (10.0, 2.0)], 5) == 3.0
    assert height_at([(10.0, 2.0)], 99) == 2.0


def test_a_long_list_is_thinned_evenly_with_its_ends_kept() -> None:
    steps = [(number, str(number)) for number in range(100)]
    assert [number for number, _ in spread(steps, 5)] == [0, 25, 50, 74, 99]


def test_a_reference_from_a_browser_is_never_a_path(
    runs: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "owner" / "name" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    asked: list[str] = []
    monkeypatch.setattr(
        "triptych.panels.playground.models.model_list.pull",
        lambda ref, *_: asked.append(ref) or tmp_path,
    )
    local = ModelList(load_config(), runs, lambda ref: Path(ref))
    shared = ModelList(load_config(None, ["panels.host=0.0.0.0"]), runs, lambda ref: Path(ref))
    for reference in (
        str(tmp_path / "owner" / "name"), "./owner/name", "../topics/step-00000040",
        "..", "topics", "~/x", "topics/../topics/step-00000040", "", "gateway:base",
    ):  # fmt: skip
        for model_list in (local, shared):
            with pytest.raises(TriptychError):
                model_list.folder(reference)
    assert asked == []
    with pytest.raises(UnknownModel, match="is offered here"):
        shared.folder("owner/name")
    with pytest.raises(TriptychError):
        local.folder("owner/name")
    assert asked == ["owner/name"], "a name of that form is the hub's, whatever folder is here"
    with pytest.raises(GenerationError, match="own models only"):
        shared.search("owner")
    assert shared.folder("topics/step-00000040").name == "step-00000040"


def test_a_visitor_who_leaves_gives_every_place_back(runs: RunStore) -> None:
    config = load_config(
        None, ["generate.threads=1", "panels.generations=2", "panels.generations_per_visitor=2"]
    )
    loaded_models = LoadedModels(config, ModelList(config, runs, lambda ref: Path(ref)))
    queue = AnswerQueue(config.panels)
    comparer = Comparer(loaded_models, None, queue)
    entries = [
        Entry(
            reference=f"topics/step-000000{step}", label=str(step), prompt="The ",
            sampling=Sampling(max_new_tokens=500, ignore_eos=True, seed=1),
        )
        for step in (10, 20, 30, 41)
    ]  # fmt: skip

    async def play() -> None:
        notes: set[str] = set()
        expected = {f"waiting, {ahead} before this one" for ahead in range(len(entries))}
        held = comparer.hold(entries, Visitor("somebody"))
        with queue.join("another"), queue.join("another"):
            async for comparison in held:
                notes |= {column.note for column in comparison.columns}
                if expected <= notes:
                    break
        async for comparison in held:
            if any(column.output_tokens > 3 for column in comparison.columns):
                break
        await held.aclose()
        assert queue._inside.total() == 0 and queue._waiting == []
        comparisons = [
            comparison async for comparison in comparer.hold(entries[3:], Visitor("somebody"))
        ]
        comparison = comparisons[-1]
        assert comparison.columns[0].failed and "nearest are" in comparison.columns[0].note
        while any(loaded_models._active.values()):
            await asyncio.sleep(0.05)

    try:
        asyncio.run(play())
    finally:
        loaded_models.close()
