"""Feature flags: what exists, what it defaults to, and what it is for this caller.

Definitions are flagd's JSON, evaluated in process behind OpenFeature's interface. Overrides for
one user or one company stand above a flag's own targeting, and the environment's kill switch
stands above everything. Editing, auditing and spreading changes is `store.flags`.

Source: https://flagd.dev/reference/flag-definitions/
"""

from __future__ import annotations

import copy
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from types import MappingProxyType
from typing import Any

from openfeature import api
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import OpenFeatureError
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider import AbstractProvider, Metadata

from triptych.errors import InvalidQuery, NotFound
from triptych.wire.tiers import TIERS, challenger_of

Value = bool | str
_CONTEXTS_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class FlagSpec:
    """Declare one flag: code may read it if and only if it stands here."""

    key: str
    default: Value
    description: str
    originals: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    parent: str = ""
    """Turned off together with this flag."""


REGISTRY: Mapping[str, FlagSpec] = MappingProxyType(
    {
        spec.key: spec
        for spec in (
            FlagSpec(
                "provider",
                "auto",
                "which provider is asked first; auto follows the configured order",
                choices=("auto", "openai", "anthropic", "gemini", "hf_spaces", "local", "scripted"),
            ),
            FlagSpec(
                "order",
                "configured",
                "fallback order; configured follows the configuration",
                choices=(
                    "configured",
                    *(">".join(p) for p in permutations(("hf_spaces", "local", "openai"))),
                ),
            ),
            FlagSpec("provider.openai", True, "OpenAI-compatible upstreams", ("useOpenAI",)),
            FlagSpec(
                "provider.hf_spaces",
                False,
                "Spaces; off turns the tiers off that only Spaces serve",
                ("useHuggingFaceSpaces", "useHuggingFace", "HUGGING_FACE_INTEGRATION"),
            ),
            FlagSpec("provider.anthropic", True, "upstreams of Anthropic's API"),
            FlagSpec("provider.gemini", True, "upstreams of Google's Gemini API"),
            FlagSpec("provider.local", True, "model servers on this machine"),
            FlagSpec(
                "provider.scripted",
                False,
                "scripted answers, for rehearsals",
                ("useMockAI",),
            ),
            FlagSpec("tier.base", True, "the general model", ("useHFBaseModel",)),
            FlagSpec(
                "tier.company",
                False,
                "a company's own model",
                ("useHFCompanyModel",),
                parent="provider.hf_spaces",
            ),
            FlagSpec(
                "tier.abstraction",
                False,
                "patterns across companies",
                ("useHFAbstractionModel",),
                parent="provider.hf_spaces",
            ),
            *(
                FlagSpec(
                    f"challenger.{tier}",
                    False,
                    f"answer the {tier} tier from the upstream that offers {challenger_of(tier)}",
                )
                for tier in TIERS
            ),
            *(
                FlagSpec(
                    f"shadow.{tier}",
                    False,
                    f"send {challenger_of(tier)} a copy of questions; its answers are only counted",
                )
                for tier in TIERS
            ),
            FlagSpec("fallback", True, "ask the next upstream when one fails"),
            FlagSpec("real_ai_only", True, "never answer with scripted text", ("useRealAI",)),
            FlagSpec(
                "log.content",
                True,
                "keep content for training where consent was given",
                ("logging",),
            ),
            FlagSpec("cache", True, "cache answers to repeated questions"),
            FlagSpec(
                "auto",
                True,
                "choose the tier of model=auto by content",
                ("multiTieredAI", "useMultiTieredAI"),
            ),
        )
    }
)


def default_definitions() -> dict[str, Any]:
    """Write the registry's defaults as flagd definitions."""
    return {key: definition(spec.default, spec) for key, spec in REGISTRY.items()}


def definition(value: Value, spec: FlagSpec, targeting: Any = None) -> dict[str, Any]:
    """Write one flagd definition whose default variant is `value`."""
    variants: dict[str, Value] = (
        {choice: choice for choice in spec.choices} if spec.choices else {"on": True, "off": False}
    )
    return {
        "state": "ENABLED",
        "variants": variants,
        "defaultVariant": variant_of(spec, value),
        "targeting": targeting or {},
    }


def variant_of(spec: FlagSpec, value: Value) -> str:
    """Name the variant that stands for a value.

    Raises: InvalidQuery when the flag has no such value.
    """
    if spec.choices:
        if isinstance(value, str) and value in spec.choices:
            return value
        raise InvalidQuery(f"{spec.key} = {value!r}", hint=f"one of {', '.join(spec.choices)}")
    if isinstance(value, bool):
        return "on" if value else "off"
    if value in ("on", "off"):
        return str(value)
    raise InvalidQuery(f"{spec.key} = {value!r}", hint="true or false")


def spec_of(key: str) -> FlagSpec:
    """Look a flag up.

    Raises: NotFound for a flag that does not exist; it is never silently false.
    """
    spec = REGISTRY.get(key)
    if spec is None:
        raise NotFound(f"there is no flag {key!r}", hint=f"flags: {', '.join(REGISTRY)}")
    return spec


@dataclass(frozen=True, slots=True)
class FlagSet:
    """One version of all definitions and overrides, as the database holds them."""

    version: int = 0
    definitions: Mapping[str, Any] = field(default_factory=default_definitions)
    user_overrides: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(flag, user id) -> variant."""
    company_overrides: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Resolved:
    """Every flag's value for one caller, with the variants for the record."""

    values: Mapping[str, Value]
    variants: Mapping[str, str]
    version: int

    def __getitem__(self, key: str) -> Value:
        return self.values[key]


class FlagProvider(AbstractProvider):
    """Resolve flags for OpenFeature: kill switch > user > company > definition."""

    def __init__(self, killed: Iterable[str] = ()) -> None:
        super().__init__()
        self._core = FlagdCore()
        self._flags = FlagSet()
        self.killed = frozenset(killed)
        for key in self.killed:
            spec_of(key)
        self.load(self._flags)

    def load(self, flags: FlagSet) -> list[str]:
        """Take a new version whole, or refuse it whole and keep the old one.

        Returns: the keys that changed.
        Raises: InvalidQuery when a definition is not valid.
        """
        core = FlagdCore()
        try:
            # flagd-core rewrites what it is given
            core.set_flags({"flags": copy.deepcopy(dict(flags.definitions))})
            for key in flags.definitions:
                _resolve(core, spec_of(key), EvaluationContext("check", {}))
        except OpenFeatureError as error:
            raise InvalidQuery(f"not a valid flag definition: {error}") from error
        changed = [
            key
            for key, value in flags.definitions.items()
            if self._flags.definitions.get(key) != value
        ]
        self._core, self._flags = core, flags
        return changed

    @property
    def version(self) -> int:
        """The version of the definitions in use."""
        return self._flags.version

    @property
    def flags(self) -> FlagSet:
        """The definitions and overrides in use."""
        return self._flags

    def get_metadata(self) -> Metadata:
        """Name this provider."""
        return Metadata("triptych")

    def _details(
        self, flag_key: str, default: Any, context: EvaluationContext | None
    ) -> FlagResolutionDetails[Any]:
        spec = REGISTRY.get(flag_key)
        if spec is None or flag_key not in self._flags.definitions:
            # raises the SDK's own "flag not found"
            return self._core.resolve_boolean_value(flag_key, default, context)
        if flag_key in self.killed:
            return FlagResolutionDetails(False, variant="off", reason=Reason.DISABLED)
        attributes = context.attributes if context else {}
        user = context.targeting_key if context else None
        company = attributes.get("company_id")
        variant = self._flags.user_overrides.get((flag_key, user)) if user else None
        if variant is None and isinstance(company, str):
            variant = self._flags.company_overrides.get((flag_key, company))
        if variant is not None:
            value = variant if spec.choices else variant == "on"
            return FlagResolutionDetails(value, variant=variant, reason=Reason.TARGETING_MATCH)
        return _resolve(self._core, spec, context)

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """Resolve a switch."""
        return self._details(flag_key, default_value, evaluation_context)

    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        """Resolve a choice."""
        return self._details(flag_key, default_value, evaluation_context)

    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        """Resolve through flagd; no flag of ours is a number."""
        return self._core.resolve_integer_value(flag_key, default_value, evaluation_context)

    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        """Resolve through flagd; no flag of ours is a number."""
        return self._core.resolve_float_value(flag_key, default_value, evaluation_context)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Any,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Any]:
        """Resolve through flagd; no flag of ours is an object."""
        return self._core.resolve_object_value(flag_key, default_value, evaluation_context)


class Flags:
    """Hand out resolved flags; one caller's are computed once per version."""

    def __init__(self, killed: Iterable[str] = ()) -> None:
        self.provider = FlagProvider(killed)
        # A domain of its own keeps several gateways in one process apart.
        self._domain = f"triptych-{secrets.token_hex(6)}"
        api.set_provider_and_wait(self.provider, self._domain)
        self.client = api.get_client(self._domain)
        self._resolved: OrderedDict[tuple[str | None, str | None, str | None], Resolved] = (
            OrderedDict()
        )
        self.stale = False

    @property
    def version(self) -> int:
        """The version of the definitions in use."""
        return self.provider.version

    def load(self, flags: FlagSet) -> None:
        """Take a new version; every later request sees it."""
        self.provider.load(flags)
        self._resolved.clear()

    def resolve(
        self, user_id: str | None, company_id: str | None = None, feature: str | None = None
    ) -> Resolved:
        """Resolve every flag for one caller."""
        who = (user_id, company_id, feature)
        found = self._resolved.get(who)
        if found is not None:
            return found
        context = evaluation_context(user_id, company_id, feature)
        values: dict[str, Value] = {}
        variants: dict[str, str] = {}
        for key, spec in REGISTRY.items():
            details: Any = (
                self.client.get_string_details(key, str(spec.default), context)
                if spec.choices
                else self.client.get_boolean_details(key, bool(spec.default), context)
            )
            values[key] = details.value
            variants[key] = details.variant or variant_of(spec, spec.default)
        resolved = Resolved(values, variants, self.version)
        self._resolved[who] = resolved
        if len(self._resolved) > _CONTEXTS_KEPT:
            self._resolved.popitem(last=False)
        return resolved


def evaluation_context(
    user_id: str | None, company_id: str | None, feature: str | None
) -> EvaluationContext:
    """Describe a caller to OpenFeature; an anonymous one has no targeting key."""
    attributes: dict[str, Any] = {}
    if company_id:
        attributes["company_id"] = company_id
    if feature:
        attributes["feature"] = feature
    return EvaluationContext(user_id or None, attributes)


def _resolve(
    core: FlagdCore, spec: FlagSpec, context: EvaluationContext | None
) -> FlagResolutionDetails[Any]:
    if spec.choices:
        return core.resolve_string_value(spec.key, str(spec.default), context)
    return core.resolve_boolean_value(spec.key, bool(spec.default), context)
