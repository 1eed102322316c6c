"""The sync workflow: sound by its linters, safe by its triggers, and run here step by step."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from triptych.hub.client import Hub
from triptych.hub.manifest import load_manifest, matches_any, read_source
from triptych.hub.repository import Repo

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "sync.yml"
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    # YAML 1.1 reads the key `on` as true.
    values = yaml.safe_load(WORKFLOW.read_text())
    return {**values, "on": values[True]}


@pytest.mark.parametrize(
    "linter",
    [
        ["zizmor", "--offline", "--no-progress", "--persona=auditor"],
        ["check-jsonschema", "--builtin-schema", "vendor.github-workflows"],
    ],
)
def test_the_linters_find_nothing(linter: list[str]) -> None:
    command = [str(BIN / linter[0]), *linter[1:], str(WORKFLOW)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_runs_on_pushes_to_main_and_never_for_pull_requests(workflow: dict[Any, Any]) -> None:
    assert set(workflow["on"]) == {"push", "workflow_dispatch"}
    assert workflow["on"]["push"]["branches"] == ["main"]


def test_one_sync_runs_at_a_time_and_is_not_cut_off(workflow: dict[Any, Any]) -> None:
    assert workflow["concurrency"] == {"group": "sync", "cancel-in-progress": False}


def test_it_may_sign_in_without_a_token_and_nothing_else(workflow: dict[Any, Any]) -> None:
    assert workflow["permissions"] == {}
    assert workflow["jobs"]["sync"]["permissions"] == {"contents": "read", "id-token": "write"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    for step in steps:
        token = step.get("env", {}).get("HF_TOKEN")
        assert token in (
            None,
            "${{ vars.HF_TRUSTED_PUBLISHER != 'true' && secrets.HF_TOKEN || '' }}",
        )
        assert "${{" not in step.get("run", ""), "expressions reach scripts by env only"


def test_a_push_that_changes_a_synced_file_triggers_it(workflow: dict[Any, Any]) -> None:
    manifest = load_manifest(ROOT / "sync.toml", org="acme")
    source = read_source(ROOT)
    for target in manifest.targets:
        for path in manifest.files(target, source).values():
            assert matches_any(path, workflow["on"]["push"]["paths"]), path


class Runner:
    """Run the sync job's own scripts, in order, as the runner of a forge would."""

    def __init__(self, workflow: dict[Any, Any], checkout: Path, tmp_path: Path, repo: Repo):
        self.steps = {s["name"]: s["run"] for s in workflow["jobs"]["sync"]["steps"] if "run" in s}
        self.checkout = checkout
        self.output = tmp_path / "output"
        self.environment = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "GITHUB_OUTPUT": str(self.output),
            "GITHUB_ENV": str(tmp_path / "env"),
            "RUNNER_TEMP": str(tmp_path),
            "TARGET": str(repo),
            "SPACE": repo.repo_id,
            "SMOKE": "/health",
        }

    def __call__(self, step: str) -> int:
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", self.steps[step]],
            cwd=self.checkout,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        print(step, done.stdout, done.stderr)
        return done.returncode

    def outputs(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.output.read_text().splitlines())


def test_its_own_steps_sync_verify_and_roll_back_a_real_space(
    workflow: dict[Any, Any],
    client: Hub,
    checkout: Any,
    fresh: Callable[..., Repo],
    tmp_path: Path,
) -> None:
    repo = fresh("space")
    for file in (ROOT / "triptych" / "spaces" / "minimal").iterdir():
        checkout.write(f"spaces/minimal/{file.name}", file.read_bytes())
    checkout.write(
        "sync.toml",
        f"""
        format_version = 1
        [[target]]
        repo = "{repo}"
        files = {{ "spaces/minimal/*" = "*" }}
        """,
    )
    checkout.commit("Add a Space")
    run = Runner(workflow, checkout.root, tmp_path, repo)
    wait = "Wait for the Space and ask it"

    assert run("Plan") == 0
    assert run("Apply") == 0
    first = run.outputs()
    assert first == {"commit": client.head(repo), "committed": "true"}
    run.environment["COMMIT"] = first["commit"]
    assert run(wait) == 0

    checkout.write("spaces/minimal/app.py", "raise SystemExit('broken on main')\n")
    checkout.commit("Break the Space")
    assert run("Apply") == 0
    run.environment["COMMIT"] = run.outputs()["commit"]
    assert run(wait) == 1
    assert run("Roll back") == 0

    run.environment["COMMIT"] = client.head(repo)
    assert run(wait) == 0
    assert (
        client.read(repo, "app.py", client.head(repo))
        == (ROOT / "triptych" / "spaces" / "minimal" / "app.py").read_bytes()
    )
    client.delete(repo)


def test_every_command_of_the_guide_is_one_this_version_understands() -> None:
    import argparse
    import importlib

    from triptych.cli import COMMANDS
    from triptych.cli.main import _parse

    guide = (ROOT / "docs" / "guides" / "publish.md").read_text()
    blocks = [block.split("```")[0] for block in guide.split("```bash\n")[1:]]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("triptych ")]
    assert len(commands) > 15
    for _, name, *arguments in commands:
        module = importlib.import_module(f"triptych.cli.{COMMANDS[name].module}")
        parser = argparse.ArgumentParser(prog=name)
        module.add_arguments(parser)
        if "<" in arguments:
            arguments = arguments[: arguments.index("<")]
        if "&" in arguments:
            arguments.remove("&")
        assert _parse(parser, arguments)
