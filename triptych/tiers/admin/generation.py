"""Routes beyond plain answers: structured answers, variations, embeddings, who am I."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response

from triptych.tiers.admin.routing import Body, RouteCall, Routes
from triptych.tiers.pipeline import embeddings as made
from triptych.tiers.pipeline.structure import MAX_VARIATIONS
from triptych.tiers.rules.query import Answer, QueryContext

routes = Routes()
_Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[!-~]+$")]


class Question(Body):
    """A prompt and for whom it is asked."""

    prompt: str = Field(min_length=1)
    user_id: _Id | None = None
    company_id: _Id | None = None
    use_company_model: bool = False
    use_abstraction: bool = False
    temperature: float | None = Field(default=None, ge=0, le=2)
    feature: str | None = Field(default=None, max_length=64)


class StructureQuestion(Question):
    """A prompt whose answer must match a JSON Schema."""

    json_schema: dict[str, Any]


class VariationsQuestion(Question):
    """A prompt to be answered several times."""

    n: int = Field(default=3, ge=1, le=MAX_VARIATIONS)
    seed: int = Field(default=0, ge=0, lt=2**31)


class Embeddings(Body):
    """OpenAI's embeddings request, passed through."""

    model: str = Field(default="base", max_length=128)
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: str | None = None
    dimensions: int | None = Field(default=None, ge=1)
    user: str | None = None


def _context(call: RouteCall) -> QueryContext:
    body: Question = call.body
    speaks_for = body.user_id if call.principal.kind == "service" else None
    return QueryContext(
        user_id=speaks_for or call.principal.user_id or call.principal.key_id,
        company_id=body.company_id,
        use_company_model=body.use_company_model,
        use_abstraction=body.use_abstraction,
        temperature=body.temperature,
        feature=body.feature,
    )


def _told(answer: Answer) -> dict[str, Any]:
    return {
        "content": answer.content,
        "request_id": answer.request_id,
        "tier_served": answer.tier_served,
        "provider": answer.provider,
        "model_id": answer.model,
        "revision": answer.revision,
    }


@routes.add("POST", "/api/structure", "user", body=StructureQuestion)
async def structure(call: RouteCall) -> Any:
    """Answer with a JSON value that matches a schema."""
    found = await call.service.generate_structure(
        call.body.prompt, call.body.json_schema, _context(call), call.principal
    )
    return {"value": found.value, "attempts": [_told(answer) for answer in found.answers]}


@routes.add("POST", "/api/variations", "user", body=VariationsQuestion)
async def variations(call: RouteCall) -> Any:
    """Answer several times, differently."""
    found = await call.service.generate_variations(
        call.body.prompt, call.body.n, _context(call), call.principal, seed=call.body.seed
    )
    return {
        "variations": [_told(answer) for answer in found.answers],
        "failures": list(found.failures),
        "duplicates": found.duplicates,
        "diversity": found.diversity,
    }


@routes.add("POST", "/v1/embeddings", "user", body=Embeddings)
async def embeddings(call: RouteCall) -> Any:
    """Pass an embeddings request to the first OpenAI-compatible upstream that serves the model."""
    body: Embeddings = call.body
    principal = call.principal
    company_id = call.headers.get("x-triptych-company")
    query = made.question(
        body.model,
        body.input,
        user_id=principal.user_id,
        company_id=company_id[:64] if company_id else None,
    )
    payload = body.model_dump(exclude_none=True)
    raw, request_id = await made.embed(call.service, query, principal, payload)
    return Response(raw, media_type="application/json", headers={"x-request-id": request_id})


@routes.add("GET", "/api/me", "user")
async def me(call: RouteCall) -> Any:
    """Return the owner and the rights of the key."""
    principal = call.principal
    return {
        "key_id": principal.key_id,
        "kind": principal.kind,
        "role": principal.role,
        "user_id": principal.user_id,
        "companies": sorted(principal.companies),
        "scopes": sorted(principal.scopes),
    }
