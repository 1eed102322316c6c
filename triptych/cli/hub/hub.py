"""Run the embedded hub on this machine, and look after its people and its disk.

Examples:
  triptych hub serve
  triptych hub user add alice
  triptych hub org add acme && triptych hub org member acme alice write
  triptych hub token create alice laptop --role write
  triptych hub token create alice ci --repo model:acme/base=read
  triptych hub approve acme/app 3f2a91c
  triptych hub client add console http://127.0.0.1:7860/login/callback
  triptych hub gc --dry-run
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triptych.config.hub import HubConfig
    from triptych.hub.server.storage.hub import Hub

_DAY_S = 24 * 3600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych hub`."""
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--root", help="folder of the hub; default: hub in TRIPTYCH_HOME")
    nouns = parser.add_subparsers(dest="noun", required=True)

    serve = nouns.add_parser("serve", parents=[where], help="start the hub")
    serve.add_argument("--host", help="address to listen on; default: loopback")
    serve.add_argument("--port", type=int, help="port; default 7880, 0 takes a free one")
    serve.add_argument("--public-url", help="address under which clients reach it")
    serve.add_argument("--log-level", default="warning", help="default: warning")

    gc = nouns.add_parser("gc", parents=[where], help="remove large files nothing refers to")
    gc.add_argument("--dry-run", action="store_true", help="only say what would go")
    gc.add_argument("--grace-s", type=int, help="keep what is younger, in seconds")
    gc.add_argument("--json", action="store_true", help="as JSON")

    approve = nouns.add_parser(
        "approve", parents=[where], help="let a commit of a Space run where it needs an approval"
    )
    approve.add_argument("space", metavar="SPACE_ID")
    approve.add_argument(
        "commit", nargs="?", default="", help="id of the commit; default: the present head"
    )
    approve.add_argument(
        "--withdraw", action="store_true", help="take back; without COMMIT, all of the Space"
    )

    _add_user_arguments(nouns.add_parser("user", help="people"), where)
    _add_org_arguments(nouns.add_parser("org", help="organisations"), where)
    _add_token_arguments(nouns.add_parser("token", help="access tokens"), where)
    _add_client_arguments(
        nouns.add_parser("client", help="applications that sign people in with this hub"), where
    )


def _add_user_arguments(parser: argparse.ArgumentParser, where: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True)
    add = verbs.add_parser("add", parents=[where], help="add a person and print a first token")
    add.add_argument("name")
    add.add_argument("--fullname", default="")
    add.add_argument("--email", default="")
    add.add_argument("--admin", action="store_true", help="may do everything")
    listing = verbs.add_parser("list", parents=[where], help="list people and organisations")
    listing.add_argument("--json", action="store_true", help="as JSON")


def _add_org_arguments(parser: argparse.ArgumentParser, where: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True)
    add = verbs.add_parser("add", parents=[where], help="add an organisation")
    add.add_argument("name")
    add.add_argument("--fullname", default="")
    member = verbs.add_parser("member", parents=[where], help="give an account a role in it")
    member.add_argument("name")
    member.add_argument("user")
    member.add_argument("role", choices=["read", "write", "admin", "none"])


def _add_token_arguments(parser: argparse.ArgumentParser, where: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True)
    create = verbs.add_parser("create", parents=[where], help="make a token, printed once")
    create.add_argument("user")
    create.add_argument("name")
    create.add_argument("--role", choices=["read", "write"], default="read")
    create.add_argument(
        "--repo", action="append", default=[], metavar="KIND:ID=ROLE",
        help="only this repository, as model:acme/base=read; may be given several times",
    )  # fmt: skip
    create.add_argument("--days", type=float, help="days until it ends; default: never")
    listing = verbs.add_parser("list", parents=[where], help="list an account's tokens")
    listing.add_argument("user")
    listing.add_argument("--json", action="store_true", help="as JSON")
    revoke = verbs.add_parser("revoke", parents=[where], help="end a token")
    revoke.add_argument("user")
    revoke.add_argument("name")


def _add_client_arguments(parser: argparse.ArgumentParser, where: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True)
    add = verbs.add_parser("add", parents=[where], help="register one; its secret is printed once")
    add.add_argument("name")
    add.add_argument("address", nargs="+", help="where people return to after signing in")
    add.add_argument("--public", action="store_true", help="it cannot keep a secret")
    verbs.add_parser("list", parents=[where], help="list them")
    remove = verbs.add_parser("remove", parents=[where], help="remove one")
    remove.add_argument("name")


def run(args: argparse.Namespace) -> int:
    """Run one verb."""
    config = _config(args)
    if args.noun == "serve":
        from triptych.hub.server.http.serving import serve

        return serve(config, log_level=args.log_level)
    from triptych.hub.server.storage.hub import Hub, ensure_admin

    hub = Hub(config)
    try:
        ensure_admin(hub)
        if args.noun == "gc":
            return _gc(hub, args)
        verbs = {
            "approve": _approve, "user": _user, "org": _org, "token": _token, "client": _client,
        }  # fmt: skip
        return verbs[args.noun](hub, args)
    finally:
        hub.close()


def _config(args: argparse.Namespace) -> HubConfig:
    from triptych.config import load_config

    given = {name: getattr(args, name, None) for name in ("root", "host", "port", "public_url")}
    overrides = [f"hub.{name}={value}" for name, value in given.items() if value is not None]
    return load_config(None, overrides).hub


def _gc(hub: Hub, args: argparse.Namespace) -> int:
    import dataclasses
    import json

    from triptych.hub.server.repositories.garbage_collection import collect

    grace_s = hub.config.gc_grace_s if args.grace_s is None else args.grace_s
    report = collect(hub, grace_s=grace_s, dry_run=args.dry_run)
    if args.json:
        print(json.dumps(dataclasses.asdict(report)))
    else:
        verb = "would free" if args.dry_run else "freed"
        print(
            f"{verb} {report.freed_bytes / 1e6:,.1f} MB: {report.objects} large files,"
            f" {report.xorbs} Xet blocks, {report.repositories} abandoned repositories"
        )
    return 0


def _approve(hub: Hub, args: argparse.Namespace) -> int:
    import sys

    from triptych.errors import RepositoryNotFound
    from triptych.hub.server.repositories import catalog
    from triptych.hub.server.spaces import approvals
    from triptych.hub.server.storage.hub import ADMIN

    space = catalog.find(hub.database, "space", *args.space.partition("/")[::2])
    if space is None:
        raise RepositoryNotFound(f"there is no Space {args.space}", hint="write it as ORG/NAME")
    sha = args.commit or ("" if args.withdraw else space.head)
    if sha:
        sha = approvals.commit_id(hub.layout.repository(space.uid), sha)
    if args.withdraw:
        approvals.withdraw(hub.database, space.id, sha)
    else:
        approvals.approve(hub.database, space.id, sha, ADMIN)
        print(sha)
    print(f"next: triptych spaces restart {args.space}", file=sys.stderr)
    return 0


def _user(hub: Hub, args: argparse.Namespace) -> int:
    import json

    from triptych.hub.server.storage.identity.accounts import create_account, list_accounts
    from triptych.hub.server.storage.identity.tokens import create_token

    if args.verb == "add":
        account = create_account(
            hub.database, args.name, fullname=args.fullname, email=args.email, is_admin=args.admin
        )
        _show_once(
            f"{account.name}'s first token", create_token(hub.database, account, "first", "write")
        )
        return 0
    accounts = list_accounts(hub.database)
    if args.json:
        rows = [{"name": a.name, "kind": a.kind, "is_admin": a.is_admin} for a in accounts]
        print(json.dumps(rows))
    else:
        for account in accounts:
            print(f"{account.kind:5} {account.name}{'  (admin)' if account.is_admin else ''}")
    return 0


def _org(hub: Hub, args: argparse.Namespace) -> int:
    from triptych.hub.server.storage.identity.accounts import create_account, set_membership

    if args.verb == "add":
        create_account(hub.database, args.name, kind="org", fullname=args.fullname)
    else:
        org, user = _account(hub, args.name), _account(hub, args.user)
        set_membership(hub.database, org, user, None if args.role == "none" else args.role)
    return 0


def _token(hub: Hub, args: argparse.Namespace) -> int:
    import json

    from triptych.errors import UsageError
    from triptych.hub.server.storage.identity.tokens import create_token, list_tokens, revoke_token

    user = _account(hub, args.user)
    if args.verb == "create":
        grants = dict(_grant(hub, text) for text in args.repo)
        role = "fineGrained" if grants else args.role
        lasting_s = args.days * _DAY_S if args.days else None
        token = create_token(
            hub.database, user, args.name, role, grants=grants, expires_in_s=lasting_s
        )
        _show_once(f"{user.name}'s token {args.name!r}", token)
    elif args.verb == "revoke":
        if not revoke_token(hub.database, user.id, args.name):
            raise UsageError(
                f"{user.name} has no token {args.name!r}",
                hint=f"see them with: triptych hub token list {user.name}",
            )
    else:
        records = list_tokens(hub.database, user.id)
        if args.json:
            print(json.dumps([vars(record) for record in records]))
        else:
            for record in records:
                print(f"{record.name:24} {record.role:12} {record.hint}")
    return 0


def _show_once(what: str, token: str) -> None:
    import sys

    print(f"{what}, to be seen this once:", file=sys.stderr)
    print(token)


def _client(hub: Hub, args: argparse.Namespace) -> int:
    from triptych.errors import UsageError
    from triptych.hub.server.storage.identity.oauth import (
        list_clients,
        register_client,
        remove_client,
    )

    if args.verb == "add":
        name, secret = register_client(hub.database, args.name, args.address, public=args.public)
        print(f"OAUTH_CLIENT_ID={name}")
        if secret:
            print(f"OAUTH_CLIENT_SECRET={secret}")
    elif args.verb == "remove":
        if not remove_client(hub.database, args.name):
            raise UsageError(
                f"there is no application {args.name!r}", hint="see: triptych hub client list"
            )
    else:
        for client in list_clients(hub.database):
            print(f"{client.name:24} {client.id}  {' '.join(client.redirect_uris)}")
    return 0


def _account(hub: Hub, name: str):  # type: ignore[no-untyped-def]  # the type loads the server
    from triptych.errors import UsageError
    from triptych.hub.server.storage.identity.accounts import find_account

    account = find_account(hub.database, name)
    if account is None:
        raise UsageError(
            f"there is no account {name!r}", hint=f"add it with: triptych hub user add {name}"
        )
    return account


def _grant(hub: Hub, text: str) -> tuple[int, str]:
    from triptych.errors import UsageError
    from triptych.hub.server.repositories.catalog import find

    name, _, role = text.partition("=")
    kind, _, repo_id = name.partition(":")
    namespace, _, short = repo_id.partition("/")
    repository = find(hub.database, kind, namespace, short)
    if repository is None or role not in ("read", "write"):
        raise UsageError(
            f"cannot grant {text!r}",
            hint="name an existing repository as model:acme/base=read or dataset:acme/texts=write",
        )
    return repository.id, role
