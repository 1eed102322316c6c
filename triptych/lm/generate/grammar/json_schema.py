"""A client's JSON schema, checked, and how answers to it are written on every engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych.errors import GenerationError

#: Free white space lets a small model write spaces until its tokens are used up.
COMPACT = {"whitespace_flexible": False}


def checked_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema as a dictionary.

    Raises: GenerationError with code `schema` where it is not a JSON schema.
    """
    import jsonschema

    try:
        jsonschema.Draft202012Validator.check_schema(dict(schema))
    except jsonschema.SchemaError as fault:
        raise GenerationError(
            f"the JSON schema is not one: {fault.message}", code="schema"
        ) from fault
    return dict(schema)
