"""Read a Hugging Face dataset by its id, streaming, through the `datasets` library.

The one place of this wing that imports `datasets` and translates its errors. Where the hub
is (huggingface.co or your own) is that library's setting, `HF_ENDPOINT`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from triptych.config.data import DataConfig
from triptych.errors import DataError, HubUnavailable
from triptych.lm.data.document import Document, Reading
from triptych.lm.data.readers.records import documents

_REFERENCE = re.compile(
    r"(?:hf:)?(?P<repo>[\w.-]+/[\w.-]+)"
    r"(?:@(?P<revision>[\w./-]+))?(?::(?P<subset>[\w.-]+)?)?(?::(?P<split>[\w.-]+))?"
)


class DatasetReference(NamedTuple):
    """Name a dataset: `owner/name[@revision][:subset[:split]]`."""

    repo_id: str
    revision: str | None
    subset: str | None
    split: str


def parse_reference(text: str) -> DatasetReference | None:
    """Read a dataset reference, or return None for any other text."""
    match = _REFERENCE.fullmatch(text)
    if match is None:
        return None
    return DatasetReference(
        match["repo"], match["revision"], match["subset"], match["split"] or "train"
    )


def read_hub_dataset(
    reference: DatasetReference, config: DataConfig, reading: Reading
) -> Iterator[Document]:
    """Yield a document for each row, in the dataset's order, without downloading it whole.

    Raises: DataError when the dataset, subset, split or column does not exist;
    HubUnavailable when the hub does not answer.
    """
    name = reference.repo_id
    with _dataset_errors(reference):
        import datasets

        rows: Any = datasets.load_dataset(
            reference.repo_id,
            reference.subset,
            split=reference.split,
            revision=reference.revision,
            streaming=True,
        )
        licence = _card_licence(reference) or config.licence
        for document in documents(rows, name, config, reading):
            own = document.licence if document.licence != config.licence else licence
            yield Document(document.text, document.source, own, document.group)


def _card_licence(reference: DatasetReference) -> str | None:
    """Read the licence in the front matter of the dataset's card."""
    import fsspec
    import yaml

    revision = f"@{reference.revision.replace('/', '%2F')}" if reference.revision else ""
    try:
        with fsspec.open(f"hf://datasets/{reference.repo_id}{revision}/README.md") as file:
            card = file.read().decode("utf-8", "replace")
        front_matter = yaml.safe_load(card.split("---")[1]) if card.startswith("---") else None
    except (FileNotFoundError, IndexError, yaml.YAMLError):
        return None
    licence = front_matter.get("license") if isinstance(front_matter, dict) else None
    return ", ".join(licence) if isinstance(licence, list) else licence


@contextmanager
def _dataset_errors(reference: DatasetReference) -> Iterator[None]:
    try:
        from datasets.exceptions import DatasetsError
    except ModuleNotFoundError as error:
        raise DataError(
            "reading a dataset from the hub needs the package `datasets`",
            hint="install it with: pip install 'triptych[datasets]'",
        ) from error
    where = f"{reference.repo_id} (subset {reference.subset or 'default'}, {reference.split})"
    try:
        yield
    except (FileNotFoundError, DatasetsError, ValueError, RuntimeError) as error:
        raise DataError(
            f"cannot read dataset {where}: {error}",
            hint="write it as owner/name[@revision][:subset[:split]]; a private one needs HF_TOKEN",
        ) from error
    except OSError as error:
        raise HubUnavailable(
            f"the hub does not answer for dataset {where}: {error}",
            hint="check the network and HF_ENDPOINT, or give a local file",
        ) from error
