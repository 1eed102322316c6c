"""Forms: fields as a template draws them, values as a pydantic model, errors beside their field.

A form is read once into a `Form`: either `value` is the checked model, or `errors` says what is
wrong with which field; what was typed stays. Left out: CSRF, which `site` verifies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData

from triptych.errors import TierError, TriptychError

Model = TypeVar("Model", bound=BaseModel)
Kind = Literal["text", "number", "password", "area", "check", "pick", "picks", "hidden"]
#: What no field of its own can show.
WHOLE = ""


@dataclass(frozen=True)
class Field:
    """One field: its name in the model, its label, and how it is filled in.

    `choices` make a pick list of (value, label); `suggestions` are offered while one types, and
    so are the options that `offered`, an address, answers with after the page was shown.
    """

    name: str
    label: str
    kind: Kind = "text"
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    suggestions: tuple[str, ...] = ()
    offered: str = ""
    placeholder: str = ""
    autocomplete: str = "off"


@dataclass(frozen=True)
class Form(Generic[Model]):
    """A form as one visit sees it: fields, what was typed, errors by field, and a status."""

    fields: tuple[Field, ...]
    typed: Mapping[str, Any] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    value: Model | None = None
    status: str = ""

    @property
    def http_status(self) -> int:
        """Return 422 for a form with errors, so that programs see it too."""
        return 422 if self.errors else 200

    @property
    def trouble(self) -> str:
        """Return what is wrong with the form as a whole."""
        return self.errors.get(WHOLE, "")

    def refused(self, error: TriptychError) -> Form[Model]:
        """Return the form with an error beside the field that it names, else above the button."""
        named = error.param if isinstance(error, TierError) else None
        known = {each.name for each in self.fields}
        where = named if named in known else WHOLE
        words = f"{error.message}. {error.hint}".rstrip(". ") if error.hint else error.message
        return replace(self, errors={**self.errors, where or WHOLE: words}, value=None)

    def with_choices(self, **choices: Sequence[tuple[str, str]]) -> Form[Model]:
        """Return the form with pick lists filled, by field name."""
        fields = tuple(
            replace(each, choices=tuple(choices[each.name])) if each.name in choices else each
            for each in self.fields
        )
        return replace(self, fields=fields)


@dataclass(frozen=True)
class FormSpec(Generic[Model]):
    """What a form means: the model of its values, and its fields."""

    model: type[Model]
    fields: tuple[Field, ...]

    def empty(self, status: str = "", **typed: Any) -> Form[Model]:
        """Return the form as it is first shown, with the model's own defaults."""
        defaults = {
            name: info.default
            for name, info in self.model.model_fields.items()
            if not info.is_required() and info.default_factory is None and info.default is not None
        }
        return Form(self.fields, {**defaults, **typed}, status=status)

    def read(self, sent: FormData) -> Form[Model]:
        """Return the form with its checked value, or with an error for each wrong field."""
        typed = {each.name: _typed(each, sent) for each in self.fields}
        filled = {name: text for name, text in typed.items() if text not in (None, "")}
        try:
            value = self.model.model_validate(filled)
        except ValidationError as error:
            return Form(self.fields, typed, _by_field(error, filled, self.fields))
        return Form(self.fields, typed, value=value)


def _typed(each: Field, sent: FormData) -> Any:
    if each.kind == "check":
        return each.name in sent
    if each.kind == "picks":
        return [str(text) for text in sent.getlist(each.name)]
    text = str(sent.get(each.name, ""))
    return text if each.kind in ("area", "password") else text.strip()


def _by_field(
    error: ValidationError, filled: Mapping[str, Any], fields: Sequence[Field]
) -> dict[str, str]:
    known = {each.name for each in fields}
    found: dict[str, str] = {}
    for fault in error.errors(include_url=False):
        name = str(fault["loc"][0]) if fault["loc"] else WHOLE
        words = "This field is required" if name not in filled else str(fault["msg"])
        found.setdefault(name if name in known else WHOLE, words)
    return found
