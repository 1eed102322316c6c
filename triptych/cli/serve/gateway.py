"""Run and steer the tiered gateway.

triptych gateway serve              answer the OpenAI API through three tiers
triptych gateway flags              show every flag; `flags provider=openai` sets one
triptych gateway companies create acme --name "Acme Tools" --industry tools
triptych gateway users create ann --company acme
triptych gateway keys create NAME   make a key for an application; it is shown once
triptych gateway budgets company:acme month --usd 20
triptych gateway log                the latest requests and what became of them
triptych gateway probe              test every upstream with a real request
triptych gateway conform ADDRESS    what any OpenAI-compatible address keeps of the API
triptych gateway nodes              the machines on this database; `nodes forget NODE`
triptych gateway replay FOLDER      bring in the records of a lost machine's spool
"""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych gateway`."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    serve = verbs.add_parser("serve", help="answer requests until stopped")
    flags = verbs.add_parser("flags", help="show or set feature flags")
    flags.add_argument("assignments", nargs="*", metavar="FLAG=VALUE")
    keys = verbs.add_parser("keys", help="create, list and revoke keys")
    keys.add_argument("action", choices=["create", "list", "revoke"])
    keys.add_argument("name", nargs="?", default="", help="a name for the key, or its id")
    keys.add_argument("--kind", choices=["service", "user"], default="service")
    keys.add_argument("--role", choices=["user", "company_admin", "admin"], default="user")
    keys.add_argument("--user", help="the user a user key belongs to")
    keys.add_argument("--company", help="limit the key to one company")
    keys.add_argument(
        "--scope", action="append", default=[],
        choices=["generate", "feedback", "flags", "read", "manage", "content"],
        help="only for this; `content` lets it read kept texts; repeatable",
    )  # fmt: skip
    keys.add_argument("--days", type=float, help="it expires after so many days")
    budgets = verbs.add_parser("budgets", help="show or set how much may be used")
    budgets.add_argument("subject", nargs="?", default="", help="key:ID, company:ID or user:ID")
    budgets.add_argument("period", nargs="?", default="", choices=["", "day", "month", "total"])
    budgets.add_argument("--tokens", type=int, help="at most so many tokens")
    budgets.add_argument("--usd", type=float, help="at most so many US dollars")
    budgets.add_argument("--remove", action="store_true", help="take this budget away")
    companies = verbs.add_parser("companies", help="create and list companies")
    companies.add_argument("action", choices=["create", "list"])
    companies.add_argument("company", nargs="?", default="", help="its id")
    companies.add_argument("--name", default="", help="what it is called")
    companies.add_argument("--industry", help="told to its own tier")
    companies.add_argument(
        "--allow-external", action="store_true", help="its content may leave your infrastructure"
    )
    users = verbs.add_parser("users", help="create users and make them members of companies")
    users.add_argument("action", choices=["create"])
    users.add_argument("user", help="its id")
    users.add_argument("--company", action="append", default=[], help="member of; repeatable")
    log = verbs.add_parser("log", help="show the latest requests")
    log.add_argument("-n", type=int, default=20, help="how many")
    log.add_argument("--provider", help="only those that this provider answered")
    probe = verbs.add_parser("probe", help="test every upstream with a real request")
    _add_conform(verbs)
    nodes = verbs.add_parser("nodes", help="list the machines on this database, or forget one")
    nodes.add_argument("action", nargs="?", choices=["list", "forget"], default="list")
    nodes.add_argument("node", nargs="?", default="", help="a machine that is gone for good")
    replay = verbs.add_parser("replay", help="bring in the spool of a machine that is gone")
    replay.add_argument("folder", help="its TRIPTYCH_HOME/gateway/spool, copied or mounted here")
    replay.add_argument("--node", default="", help="the machine's name, for its records")
    for verb in (serve, flags, keys, budgets, companies, users, log, probe, nodes, replay):
        verb.add_argument("--config", help="a TOML file with a [gateway] section")
        verb.add_argument("--json", action="store_true", help="JSON for scripts")
        verb.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="SECTION.FIELD=VALUE",
            help="override a setting",
        )


def _add_conform(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    conform = verbs.add_parser(
        "conform", help="test an OpenAI-compatible address; exit code 1 when it breaks the API"
    )
    conform.add_argument("address", help="http://host:port, with or without /v1")
    conform.add_argument("--model", default="", help="ask this model; default: the first it lists")
    conform.add_argument(
        "--key-name", default="", metavar="VARIABLE", help="environment variable with its key"
    )
    conform.add_argument(
        "--only", action="append", default=[], metavar="CHECK", help="this check; repeatable"
    )
    conform.add_argument("--timeout", type=float, default=120.0, help="seconds for one request")
    conform.add_argument("--json", action="store_true", help="JSON for scripts")


def _conform(args: argparse.Namespace) -> int:
    """Print one row per check; 1 when any is wrong or a required one does not work."""
    from triptych.config import environment
    from triptych.tiers.admin import commands
    from triptych.tiers.conformance.running import conform, failed

    secret = environment.secret(args.key_name) if args.key_name else None
    rows = commands.run(
        conform(
            args.address,
            key=secret.reveal() if secret else "",
            model=args.model,
            only=args.only,
            timeout_s=args.timeout,
        )
    )
    commands.show(rows, as_json=args.json, out=sys.stdout)
    broken = failed(rows)
    if broken:
        print(f"breaks the API: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


def run(args: argparse.Namespace) -> int:
    """Run one verb."""
    if args.verb == "conform":
        return _conform(args)
    from pathlib import Path

    from triptych.config import load_config
    from triptych.tiers.admin import commands

    config = load_config(Path(args.config) if args.config else None, args.set).gateway
    if args.verb == "serve":
        from triptych.cli.serve.knowledge import NAME
        from triptych.tiers.server import serve

        _pass_hub_token()
        return serve(config, NAME)
    verb = getattr(commands, args.verb)
    result = commands.run(verb(config, args))
    commands.show(result, as_json=args.json, out=sys.stdout)
    return 0


def _pass_hub_token() -> None:
    """Return the gateway the token that this home's own hub wants for private Spaces."""
    from triptych.config import environment
    from triptych.hub.credentials import find_token

    token = find_token(environment.hub_endpoint(), lambda: None)
    if token is not None:
        environment.suggest("HF_TOKEN", token)
