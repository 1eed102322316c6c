"""Create, deploy, watch and roll back Spaces, on the embedded hub or on huggingface.co.

Examples:
  triptych spaces create acme/chat --app minimal
  triptych spaces deploy acme/base@v1 acme/chat     live only when the Space says so itself
  triptych spaces rollback acme/chat
  triptych spaces status acme/chat
  triptych spaces variables acme/chat LOG_LEVEL=info
  triptych spaces secrets acme/chat HF_TOKEN < token.txt
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych.hub.client import Hub
    from triptych.hub.deployments import Deployer
    from triptych.hub.ledger import Deployment
    from triptych.hub.repository import Repo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych spaces`."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    create = _verb(verbs, "create", "create a Space with the files of a folder")
    create.add_argument("--app", required=True, help="a folder, or a template such as minimal")
    create.add_argument("--private", action="store_true", help="hide it from others")
    _verb(verbs, "status", "stage, address, model and deployments")
    logs = _verb(verbs, "logs", "what the app, or its build, says")
    logs.add_argument("--build", action="store_true", help="the build instead of the app")
    logs.add_argument("--follow", action="store_true", help="go on until interrupted")
    restart = _verb(verbs, "restart", "start again, also from a pause")
    restart.add_argument("--rebuild", action="store_true", help="without any cached environment")
    _verb(verbs, "pause", "stop until it is restarted")
    wake = _verb(verbs, "wake", "ask it until it answers")
    wake.add_argument("--path", default="/", help="where to ask; default /")
    wake.add_argument("--commit", metavar="SHA", help="and until this commit of it answers")
    _wait_argument(wake)
    delete = _verb(verbs, "delete", "delete the Space and its history")
    delete.add_argument("--yes", action="store_true", help="do not ask")
    deploy = verbs.add_parser("deploy", help="serve a model, pinned by commit and verified")
    deploy.add_argument("reference", metavar="REPO_ID[@REV]")
    _common(deploy)
    deploy.add_argument("--app", help="also update its files from a folder or a template")
    _wait_argument(deploy)
    _wait_argument(_verb(verbs, "rollback", "serve what was served before"))
    variables = _verb(verbs, "variables", "list, set or delete variables")
    variables.add_argument("pairs", nargs="*", metavar="NAME=VALUE", help="set these")
    variables.add_argument("--delete", action="append", default=[], metavar="NAME")
    secrets = _verb(verbs, "secrets", "list names, set one from standard input, or delete")
    secrets.add_argument("name", nargs="?", help="set it to what standard input holds")
    secrets.add_argument("--delete", action="append", default=[], metavar="NAME")


def run(args: argparse.Namespace) -> int:
    """Do one verb."""
    from triptych.hub.client import Hub
    from triptych.hub.repository import Repo

    verb = globals()[f"_{args.verb}"]
    code: int = verb(args, Hub(args.endpoint), Repo.parse(args.space, "space"))
    return code


def _verb(verbs: argparse._SubParsersAction, name: str, text: str) -> argparse.ArgumentParser:  # type: ignore[type-arg]
    parser = verbs.add_parser(name, help=text)
    _common(parser)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("space", metavar="SPACE_ID")
    parser.add_argument("--endpoint", help="address of the hub; default HF_ENDPOINT")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _wait_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout", type=float, default=900.0, metavar="SECONDS", help="give up after; default 900"
    )


def _create(args: argparse.Namespace, hub: Hub, space: Repo) -> int:
    from triptych.hub.deployments import app_files
    from triptych.hub.templates import app_folder
    from triptych.hub.upload import put_files

    files = app_files(app_folder(args.app))
    created = not hub.exists(space)
    head, _ = put_files(hub, space, files, "Add the app", private=args.private)
    _print(args, {"space": space.repo_id, "created": created, "commit": head}, f"{space}@{head}")
    return 0


def _status(args: argparse.Namespace, hub: Hub, space: Repo) -> int:
    from triptych.hub.ledger import Ledger

    state = hub.space(space)
    variables = hub.variables(space)
    health = hub.ask_space(state, "/health") if state.stage.startswith("RUNNING") else None
    deployments = Ledger().of(hub.endpoint, space)
    pinned = {n: variables[n][0] for n in ("MODEL_ID", "MODEL_VERSION") if n in variables}
    record = {
        "space": space.repo_id,
        **vars(state),
        "pinned": pinned,
        "health": health,
        "deployments": [deployment.record() for deployment in deployments],
    }
    lines = [
        f"stage      {state.stage}" + (f"  {state.error}" if state.error else ""),
        f"address    {state.url}",
        f"app        {state.sha}",
        f"pinned     {'@'.join(pinned.values()) or 'no model'}",
        f"answers    {_answer(health)}",
        *(f"deployment {d.id}  {d.state:<11} {d.pin}" for d in deployments[:5]),
    ]
    _print(args, record, "\n".join(lines))
    return 0


def _answer(health: dict[str, Any] | None) -> str:
    if health is None:
        return "nothing"
    return health.get("revision") or "without a revision"


def _logs(args: argparse.Namespace, hub: Hub, space: Repo) -> int:
    for line in hub.logs(space, build=args.build, follow=args.follow):
        print(line, flush=args.follow)
    return 0


def _restart(args: argparse.Namespace, hub: Hub, space: Repo) -> int:
    hub.restart(space, rebuild=args.rebuild)
    return _say_stage(args, hub, space)


def _pause(args: argparse.Namespace, hub: Hub, space: Repo) -> int:
    hub.pause(space)
    return _say_stage(args, hub, space)


def _wake(args: argparse.Namespace, hub: Hub, space: Repo) -> int:
    from triptych.hub.deployments import Patience, wait_for_commit

    if hub.space(space).stage in ("PAUSED", "STOPPED"):
        hub.restart(space)
    wait_for_commit(hub, space, args.commit, args.path, Patience(total_s=args.timeout))
    return _say_stage(args, hub, space)


def _delete(args: argparse.Namespace, hub: Hub, space: Repo) -> int:
    from triptych.errors import UsageError

    if not args.yes:
        raise UsageError(
            f"this deletes {space.repo_id} with its history, for good", hint="say so with --yes"
        )
    hub.delete(space)
    _print(args, {"space": space.repo_id, "deleted": True}, f"{space.repo_id} deleted")
    return 0


def _deploy(args: argparse.Namespace, hub: Hub, space: Repo) -> int:
    from triptych.hub.templates import app_folder

    app = app_folder(args.app) if args.app else None
    return _say_live(args, _deployer(args, hub).deploy(args.reference, space, app))


def _rollback(args: argparse.Namespace, hub: Hub, space: Repo) -> int:
    return _say_live(args, _deployer(args, hub).roll_back(space))


def _variables(args: argparse.Namespace, hub: Hub, space: Repo) -> int:
    from triptych.errors import UsageError

    for pair in args.pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"cannot read {pair!r}", hint="write NAME=VALUE")
        hub.set_variable(space, name, value)
    for name in args.delete:
        hub.delete_variable(space, name)
    values = {name: value for name, (value, _) in hub.variables(space).items()}
    _print(args, values, "\n".join(f"{name}={value}" for name, value in values.items()))
    return 0


def _secrets(args: argparse.Namespace, hub: Hub, space: Repo) -> int:
    from triptych.config.environment import Secret
    from triptych.errors import UsageError

    if args.name:
        # Never an argument: those are seen by every process and kept in the shell's history.
        value = Secret(sys.stdin.read())
        if not value:
            raise UsageError(
                f"standard input holds no value for {args.name}",
                hint=f"triptych spaces secrets {space.repo_id} {args.name} < FILE",
            )
        hub.set_secret(space, args.name, value)
    for name in args.delete:
        hub.delete_secret(space, name)
    names = hub.secrets(space)
    _print(args, names, "\n".join(names))
    return 0


def _deployer(args: argparse.Namespace, hub: Hub) -> Deployer:
    from triptych.cli.serve.deployment_registry import record, tier_of
    from triptych.hub.deployments import Deployer, Patience

    def say(deployment: Deployment) -> None:
        print(f"{deployment.state:<11} {deployment.pin}", file=sys.stderr)
        if tier := tier_of(deployment.space):
            record(hub, tier, deployment)

    return Deployer(hub, patience=Patience(total_s=args.timeout), on_state=say)


def _say_live(args: argparse.Namespace, deployment: Deployment) -> int:
    took = f"{deployment.pin} live after {deployment.seconds:.1f} s"
    _print(args, deployment.record() | {"seconds": deployment.seconds}, took)
    return 0


def _say_stage(args: argparse.Namespace, hub: Hub, space: Repo) -> int:
    state = hub.space(space)
    _print(args, {"space": space.repo_id, **vars(state)}, f"{state.stage}  {state.url}")
    return 0


def _print(args: argparse.Namespace, record: object, text: str) -> None:
    import json

    if args.json:
        print(json.dumps(record, indent=2))
    elif text:
        print(text)
