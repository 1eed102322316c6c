"""Set up the three tier Spaces and the gateway that serves them.

  triptych tiers setup --org acme --model acme/base            all three from one model
  triptych tiers setup --org acme --model acme/base --company acme/own --abstraction acme/shared
  triptych tiers status --org acme

Works on the embedded hub and, unchanged, on huggingface.co. The Spaces are private unless
--public is given; setting up again changes only what differs. The gateway's configuration is
written to TRIPTYCH_HOME/gateway.toml and holds no secret: the hub token stays in HF_TOKEN. What
was deployed enters the gateway's registry once the Space itself answers with it. Then the three
Spaces are entered at the gateway and switched on: a running one answers with them within a second.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from triptych.wire.tiers import SPACES

if TYPE_CHECKING:
    from triptych.hub.client import Hub
    from triptych.hub.repository import Content


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych tiers`."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    setup = verbs.add_parser("setup", help="create, pin and verify the Spaces; write the config")
    setup.add_argument("--model", required=True, metavar="REPO_ID[@REV]", help="the base model")
    for tier in ("company", "abstraction"):
        setup.add_argument(
            f"--{tier}", metavar="REPO_ID[@REV]", help=f"the {tier} model; default: the base model"
        )
    setup.add_argument("--public", action="store_true", help="let everybody see the Spaces")
    setup.add_argument("--app", help="folder or template of the tier app; default: tier")
    status = verbs.add_parser("status", help="what each tier's Space serves")
    for verb in (setup, status):
        verb.add_argument("--org", help="owner of the Spaces; default HUGGINGFACE_ORG")
        verb.add_argument("--endpoint", help="address of the hub; default HF_ENDPOINT")
        verb.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Set the tiers up, or look at them."""
    from triptych.config import environment
    from triptych.errors import UsageError
    from triptych.hub.client import Hub

    org = args.org or environment.get("HUGGINGFACE_ORG")
    if not org:
        raise UsageError("whose Spaces?", hint="give --org ORG, or set HUGGINGFACE_ORG")
    names = {
        tier: f"{org}/{(environment.get(variable) or default).rpartition('/')[2]}"
        for tier, (variable, default) in SPACES.items()
    }
    hub = Hub(args.endpoint)
    return _setup(args, hub, names) if args.verb == "setup" else _status(args, hub, names)


def _setup(args: argparse.Namespace, hub: Hub, names: dict[str, str]) -> int:
    from functools import partial

    from triptych.cli.serve.deployment_registry import enter_tiers, record
    from triptych.config import environment
    from triptych.durable import write_atomic
    from triptych.hub.deployments import Deployer, app_files
    from triptych.hub.repository import Repo
    from triptych.hub.templates import app_folder
    from triptych.hub.upload import put_files

    app = app_folder(args.app or "tier")
    token = environment.secret("HF_TOKEN")
    done, hardware = {}, {}
    for tier, space_id in names.items():
        space = Repo.parse(space_id, "space")
        model = getattr(args, tier, None) or args.model
        print(f"{tier}: {model} in {space_id}", file=sys.stderr, flush=True)
        files = with_title(app_files(app), f"{tier.capitalize()} tier")
        put_files(hub, space, files, "Set up the tier", private=not args.public)
        if token is not None and "HF_TOKEN" not in hub.secrets(space):
            hub.set_secret(space, "HF_TOKEN", token)
        deployer = Deployer(hub, on_state=partial(record, hub, tier))
        deployment = deployer.deploy(model, space)
        record(hub, tier, deployment)
        done[tier] = deployment.record()
        hardware[tier] = hub.space(space).hardware or ""
    path = environment.home() / "gateway.toml"
    write_atomic(path, gateway_config(names, hardware, private=not args.public))
    enter_tiers(names, hardware, private=not args.public)
    if args.json:
        print(json.dumps({"config": str(path), "tiers": done}))
    else:
        print("all three live and switched on: a running gateway answers with them now;")
        print("`triptych up` starts one, with the pages")
    return 0


def with_title(files: Mapping[str, Content], title: str) -> dict[str, Content]:
    """Return a Space's files with its own title, so that three tiers do not look like one."""
    readme = files["README.md"]
    assert readme is not None  # `app_files` refuses a folder without one
    text = (readme if isinstance(readme, bytes) else readme.read_bytes()).decode()
    text = re.sub(r"(?m)^title: .*$", f"title: {title}", text, count=1)
    text = re.sub(r"(?m)^# .*$", f"# {title}", text, count=1)
    return {**files, "README.md": text.encode()}


def gateway_config(names: dict[str, str], hardware: dict[str, str], *, private: bool) -> str:
    """Write the gateway's configuration for three Spaces."""
    lines = ["# Written by `triptych tiers setup`.", "[gateway]"]
    for tier, space_id in names.items():
        lines += [
            "",
            f"[gateway.upstreams.space-{tier}]",
            'provider = "hf_spaces"',
            f'address = "{space_id}"',
            f'models = {{ {tier} = "" }}',
        ]
        if private:
            lines.append('key_name = "HF_TOKEN"')
        if hardware.get(tier):
            lines.append(f'hardware = "{hardware[tier]}"')
    return "\n".join([*lines, ""])


def _status(args: argparse.Namespace, hub: Hub, names: dict[str, str]) -> int:
    from triptych.errors import RepositoryNotFound
    from triptych.hub.repository import Repo

    rows = {}
    for tier, space_id in names.items():
        try:
            state = hub.space(Repo.parse(space_id, "space"))
        except RepositoryNotFound:
            rows[tier] = {"space": space_id, "stage": "absent"}
            continue
        health = hub.ask_space(state, "/health") if state.stage.startswith("RUNNING") else None
        rows[tier] = {"space": space_id, "stage": state.stage, **(health or {})}
    if args.json:
        print(json.dumps(rows))
        return 0
    for tier, row in rows.items():
        serves = f"{row.get('model', '')}@{row.get('revision', '')}" if "model" in row else "-"
        print(f"{tier:<12} {row['stage']:<12} {row['space']:<40} {serves}")
    return 0
