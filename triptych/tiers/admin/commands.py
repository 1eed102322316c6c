"""What `triptych gateway` does besides serving: flags, keys, the log, probes."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import orjson

from triptych.config.gateway import GatewayConfig
from triptych.errors import UsageError
from triptych.tiers.pipeline.runtime import killed_flags
from triptych.tiers.providers.factory import Factory
from triptych.tiers.rules import catalogue
from triptych.tiers.rules.budgets import Period
from triptych.tiers.rules.flags import REGISTRY, Flags
from triptych.tiers.store import accounts, interactions, migrations, settings
from triptych.tiers.store import budgets as budget_store
from triptych.tiers.store import flags as flag_store
from triptych.tiers.store.cluster import nodes as node_store
from triptych.tiers.store.database import Database, across
from triptych.tiers.store.recorder import replayed

ACTOR = "command line"


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run one command to its end."""
    return asyncio.run(work)


async def _with_database(config: GatewayConfig, work: Any) -> Any:
    database = Database(config.database_url)
    try:
        await migrations.upgrade(database)
        result: Awaitable[Any] = work(database)
        return await result
    finally:
        await database.close()


async def flags(config: GatewayConfig, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Set flags, then list them all."""

    async def work(database: Database) -> list[dict[str, Any]]:
        for assignment in args.assignments:
            key, equals, text = assignment.partition("=")
            if not equals:
                raise UsageError(f"cannot read {assignment!r}", hint="write it as flag=value")
            value = {"true": True, "false": False, "on": True, "off": False}.get(text, text)
            await flag_store.set_flag(database, key, value, actor=ACTOR)
        current = Flags(killed_flags())
        current.load(settings.flag_set(await settings.read(database, "flags"), 0))
        values = current.resolve(None).values
        return [
            {"flag": key, "value": values[key], "default": spec.default, "is": spec.description}
            for key, spec in REGISTRY.items()
        ]

    found: list[dict[str, Any]] = await _with_database(config, work)
    return found


async def keys(config: GatewayConfig, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Create, list or revoke keys."""

    async def work(database: Database) -> list[dict[str, Any]]:
        if args.action == "create":
            key = await accounts.create_key(
                database,
                name=args.name or "unnamed",
                kind=args.kind,
                role=args.role,
                user_id=args.user,
                company_id=args.company,
                scopes=args.scope,
                expires_at=time.time() + args.days * 86_400 if args.days else None,
                actor=ACTOR,
            )
            return [{"key": key, "note": "shown once; keep it safe"}]
        if args.action == "revoke":
            await accounts.revoke_key(database, args.name, actor=ACTOR)
        return await accounts.list_keys(database)

    found: list[dict[str, Any]] = await _with_database(config, work)
    return found


async def budgets(config: GatewayConfig, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Set or remove a budget, then list all with what is used of each."""
    period: Period = args.period or "month"
    everybody = across("the operator keeps budgets")

    async def work(database: Database) -> list[dict[str, Any]]:
        if args.subject and args.remove:
            await budget_store.remove_budget(
                database, args.subject, period, scope=everybody, actor=ACTOR
            )
        elif args.subject:
            if args.tokens is None and args.usd is None:
                raise UsageError("how much?", hint="give --tokens N or --usd X")
            await budget_store.set_budget(
                database,
                args.subject,
                period,
                max_tokens=args.tokens,
                max_cost_microusd=None if args.usd is None else round(args.usd * 1_000_000),
                scope=everybody,
                actor=ACTOR,
            )
        rows = await budget_store.listed(database, everybody)
        return rows if args.json else [_budget_line(row) for row in rows]

    found: list[dict[str, Any]] = await _with_database(config, work)
    return found


def _budget_line(row: dict[str, Any]) -> dict[str, Any]:
    def money(microusd: int | None) -> str | None:
        return None if microusd is None else f"${microusd / 1_000_000:.4f}"

    return {
        "subject": row["subject"],
        "period": row["period"],
        "tokens": row["tokens"],
        "of tokens": row["max_tokens"],
        "cost": money(row["cost_microusd"]),
        "of cost": money(row["max_cost_microusd"]),
    }


async def companies(config: GatewayConfig, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Create a company, or list all."""

    async def work(database: Database) -> list[dict[str, Any]]:
        if args.action == "create":
            if not args.company:
                raise UsageError("which company?", hint="triptych gateway companies create acme")
            await accounts.create_company(
                database,
                args.company,
                args.name or args.company,
                industry=args.industry,
                allow_external=args.allow_external,
                actor=ACTOR,
            )
        return await accounts.list_companies(database, across("the operator lists companies"))

    found: list[dict[str, Any]] = await _with_database(config, work)
    return found


async def serve_company(config: GatewayConfig, company: str, name: str) -> bool:
    """Create a company unless it is there, and turn the company tier on for it.

    Returns: whether it was created.
    """

    async def work(database: Database) -> bool:
        rows = await accounts.list_companies(database, across("the operator lists companies"))
        missing = company not in {row["company_id"] for row in rows}
        if missing:
            await accounts.create_company(database, company, name, actor=ACTOR)
        await flag_store.set_override(
            database, "tier.company", "company", company, True, actor=ACTOR
        )
        return missing

    made: bool = await _with_database(config, work)
    return made


async def users(config: GatewayConfig, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Create a user with its memberships."""

    async def work(database: Database) -> list[dict[str, Any]]:
        known = {
            row["company_id"]
            for row in await accounts.list_companies(
                database, across("the operator lists companies")
            )
        }
        if missing := sorted(set(args.company) - known):
            raise UsageError(
                f"there is no company {missing[0]}",
                hint=f"triptych gateway companies create {missing[0]}",
            )
        await accounts.create_user(database, args.user, companies=args.company)
        return [{"user": args.user, "companies": args.company}]

    found: list[dict[str, Any]] = await _with_database(config, work)
    return found


async def log(config: GatewayConfig, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Show the latest requests: all that is known for a program, what matters for a person."""
    found: list[dict[str, Any]] = await _with_database(
        config, lambda database: interactions.latest(database, args.n, provider=args.provider)
    )
    return found if args.json else [_line(row) for row in found]


def _line(row: dict[str, Any]) -> dict[str, Any]:
    asked, served = row["tier_asked"], row["tier_served"]
    tokens = None if row["output_tokens"] is None else row["input_tokens"] + row["output_tokens"]
    return {
        "time": datetime.fromtimestamp(row["created_at"]).astimezone().strftime("%H:%M:%S"),
        "request": row["request_id"],
        "tier": asked if served in (asked, None) else f"{asked} -> {served}",
        "upstream": row["upstream"],
        "model": row["model"],
        "outcome": row["error_code"] or row["outcome"],
        "attempts": row["attempts"],
        "tokens": tokens,
        "seconds": None if row["latency_s"] is None else round(row["latency_s"], 3),
    }


async def probe(config: GatewayConfig, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Test every configured upstream."""
    factory = Factory(config)
    found = []
    for upstream in catalogue.from_config(config):
        provider = factory.build(upstream)
        try:
            result = await provider.probe()
        finally:
            await provider.close()
        found.append(
            {
                "upstream": upstream.name,
                "tiers": ",".join(upstream.models),
                "ok": result.ok,
                "latency_s": round(result.latency_s, 3),
                "dialect": result.dialect,
                "revision": result.revision,
                "stage": result.stage,
                "message": result.message,
            }
        )
    return found


async def nodes(config: GatewayConfig, args: argparse.Namespace) -> list[dict[str, Any]]:
    """List the machines, or forget one and return what it took along."""

    async def work(database: Database) -> list[dict[str, Any]]:
        if args.action == "forget":
            return [await node_store.forget(database, args.node, actor=ACTOR)]
        return await node_store.listed(database)

    found: list[dict[str, Any]] = await _with_database(config, work)
    return found


async def replay(config: GatewayConfig, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Bring in the records that a lost machine left in its spool; doing it twice adds nothing."""

    async def work(database: Database) -> list[dict[str, Any]]:
        folder = Path(args.folder)
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder", hint="name the lost machine's spool")
        found, interrupted = await replayed(database, folder, node=args.node)
        return [{"records": found, "interrupted": interrupted}]

    done: list[dict[str, Any]] = await _with_database(config, work)
    return done


def show(rows: list[dict[str, Any]], *, as_json: bool, out: IO[str]) -> None:
    """Print rows as JSON or as a table."""
    if as_json:
        print(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode(), file=out)
        return
    if not rows:
        print("nothing yet", file=out)
        return
    columns = list(rows[0])
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [
        max(len(column), *(len(line[i]) for line in cells)) for i, column in enumerate(columns)
    ]
    for line in [columns, *cells]:
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip(), file=out)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
