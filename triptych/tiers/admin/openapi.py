"""The OpenAPI description, written from the route table so that it cannot drift from it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from triptych import __version__
from triptych.tiers.admin.routing import Route

_PARAMETER = re.compile(r"\{(\w+)(?::(\w+))?\}")
_ERRORS = (400, 401, 402, 403, 404, 409, 413, 415, 422, 429, 502, 503, 504)
_ERROR = {"description": "An error in OpenAI's shape."}


def describe(table: Iterable[Route]) -> dict[str, Any]:
    """Describe every route: its role, parameters and body."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {}
    for route in table:
        path = _PARAMETER.sub(r"{\1}", route.path)
        operation: dict[str, Any] = {
            "summary": route.summary,
            "operationId": f"{route.method.lower()}_{re.sub(r'[^a-z0-9]+', '_', path.lower())}",
            "tags": [route.need],
            "parameters": _parameters(route),
            "responses": {
                "200": {"description": "The answer."},
                "304": {"description": "Unchanged."},
                **{str(s): _ERROR for s in _ERRORS},
            },
        }
        if route.need != "anyone":
            operation["security"] = [{"key": []}]
        if route.body is not None:
            schema = route.body.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[route.body.__name__] = schema
            reference = {"$ref": f"#/components/schemas/{route.body.__name__}"}
            operation["requestBody"] = {
                "required": True,
                "content": {"application/json": {"schema": reference}},
            }
        paths.setdefault(path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Triptych gateway", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _parameters(route: Route) -> list[dict[str, Any]]:
    in_path = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "integer", "minimum": 0} if kind == "int" else {"type": "string"},
        }
        for name, kind in _PARAMETER.findall(route.path)
    ]
    in_query = [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
        for name in route.query
    ]
    return in_path + in_query
