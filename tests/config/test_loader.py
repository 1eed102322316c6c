"""Configuration: the order of its layers, and mistakes reported all at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from triptych.config import Config, environment, load_config
from triptych.errors import ConfigError


def first_integer_setting() -> tuple[str, int]:
    """Find a setting to test the layers with, whatever the sections hold today."""
    for section in dataclasses.fields(Config):
        values = getattr(Config(), section.name)
        for field in dataclasses.fields(values):
            value = getattr(values, field.name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 1:
                return f"{section.name}.{field.name}", value
    raise AssertionError("no integer setting")


def read(config: Config, key: str) -> object:
    section, name = key.split(".")
    return getattr(getattr(config, section), name)


def test_arguments_win_over_environment_over_file_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, default = first_integer_setting()
    section, name = key.split(".")
    assert read(load_config(), key) == default
    file = tmp_path / "settings.toml"
    file.write_text(f"[{section}]\n{name} = {default + 1}\n")
    assert read(load_config(file), key) == default + 1
    monkeypatch.setenv(f"TRIPTYCH_{section.upper()}__{name.upper()}", str(default + 2))
    assert read(load_config(file), key) == default + 2
    assert read(load_config(file, [f"{key}={default + 3}"]), key) == default + 3


def test_every_unknown_key_is_reported_at_once_with_the_nearest_name(tmp_path: Path) -> None:
    key, _ = first_integer_setting()
    file = tmp_path / "settings.toml"
    file.write_text(f"[trian]\nsteps = 1\n[{key.split('.')[0]}]\n{key.split('.')[1]}x = 2\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert "2 problems" in caught.value.message
    assert "did you mean train?" in caught.value.message
    assert f"did you mean {key}?" in caught.value.message


def test_a_value_of_the_wrong_type_names_the_field_and_the_value() -> None:
    key, _ = first_integer_setting()
    with pytest.raises(ConfigError, match="banana") as caught:
        load_config(None, [f"{key}=banana"])
    assert key in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["steps", "train=3", "=", "train.steps"])
def test_an_unreadable_argument_says_how_to_write_it(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot read the setting") as caught:
        load_config(None, [text])
    assert "section.field=value" in caught.value.hint


def test_an_old_name_of_a_setting_is_read_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[data]\ntwin_frac = 0.3\n")
    assert load_config(file).data.leakage_frac == 0.3
    assert "data.twin_frac" in caplog.text and "data.leakage_frac" in caplog.text
    monkeypatch.setenv("TRIPTYCH_DATA__TWIN_FRAC", "0.4")
    assert load_config(file).data.leakage_frac == 0.4
    assert load_config(file, ["data.leakage_frac=0.6"]).data.leakage_frac == 0.6


def test_a_missing_or_broken_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no configuration file"):
        load_config(tmp_path / "absent.toml")
    (tmp_path / "broken.toml").write_text("[train\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(tmp_path / "broken.toml")


def test_original_names_are_understood_on_the_server_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("VITE_HUGGINGFACE_API_KEY", " hf_example ")
    monkeypatch.setenv("VITE_HUGGINGFACE_ORG", "acme")
    token = environment.secret("HF_TOKEN")
    assert token is not None and token.reveal() == "hf_example"
    assert environment.get("HUGGINGFACE_ORG") == "acme"


def test_a_secret_never_shows_in_text() -> None:
    secret = environment.Secret("hf_example")
    assert "hf_example" not in f"{secret} {secret!r} {[secret]}"
