"""`InferenceModelRewrite`: which model a request gets that asked for another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import attrs

from inferencepool.model._meta import ObjectMeta, source_of
from inferencepool.model._objective import OBJECTIVE_VERSIONS, PoolReference, read_status, with_status
from inferencepool.model._schema import Reader, to_texts
from inferencepool.model._status import PENDING, Condition, to_conditions

__all__ = ["InferenceModelRewrite", "RewriteRule", "TargetModel"]


@attrs.frozen
class TargetModel:
    """
    A model that requests are rewritten to.

    Attributes:
        model_rewrite: The model's name.
        weight: Its share among the targets of the rule, 1 to 1,000,000; None where no weight is given.
    """

    model_rewrite: str
    weight: int | None = None

    @classmethod
    def read(cls, reader: Reader) -> TargetModel:
        """Read one target; what is wrong is noted in *reader*."""
        name = reader.text("modelRewrite", "", required=True) or ""
        target = cls(name, reader.whole("weight", low=1, high=1_000_000))
        reader.done()
        return target

    def to_dict(self) -> dict[str, Any]:
        """Give the document."""
        document: dict[str, Any] = {"modelRewrite": self.model_rewrite}
        return document if self.weight is None else {**document, "weight": self.weight}


def _to_targets(targets: Iterable[TargetModel]) -> tuple[TargetModel, ...]:
    return tuple(targets)


@attrs.frozen
class RewriteRule:
    """
    Rewrites requests for some models.

    Attributes:
        models: Names of the models that it applies to, exactly; empty for all.
        targets: What to rewrite them to.
    """

    models: tuple[str, ...] = attrs.field(default=(), converter=to_texts)
    targets: tuple[TargetModel, ...] = attrs.field(default=(), converter=_to_targets)

    @classmethod
    def read(cls, reader: Reader) -> RewriteRule:
        """Read one rule; what is wrong is noted in *reader*."""
        models = []
        for match in reader.items("matches") or []:
            model = match.child("model", required=True)
            if model is not None:
                model.text("type", "Exact", one_of=("Exact",))
                models.append(model.text("value", "", required=True, least=1) or "")
                model.done()
            match.done()
        rule = cls(models, map(TargetModel.read, reader.items("targets", least=1) or []))
        reader.done()
        return rule

    def to_dict(self) -> dict[str, Any]:
        """Give the document."""
        document: dict[str, Any] = {}
        if self.models:
            document["matches"] = [{"model": {"type": "Exact", "value": name}} for name in self.models]
        if self.targets:
            document["targets"] = [target.to_dict() for target in self.targets]
        return document


def _to_rules(rules: Iterable[RewriteRule]) -> tuple[RewriteRule, ...]:
    return tuple(rules)


@attrs.frozen(kw_only=True)
class InferenceModelRewrite:
    """
    Which model a request gets that asked for another.

    Attributes:
        metadata: Metadata; among rules that fit alike, those of the oldest object win.
        pool_ref: The pool it belongs to.
        rules: The rules, the first that fits wins.
        conditions: Status.
        api_version: The API group and version that it was read from.
    """

    metadata: ObjectMeta
    pool_ref: PoolReference
    rules: tuple[RewriteRule, ...] = attrs.field(default=(), converter=_to_rules)
    conditions: tuple[Condition, ...] = attrs.field(default=(), converter=to_conditions)
    api_version: str = OBJECTIVE_VERSIONS[0]

    @classmethod
    def from_dict(
        cls, document: Mapping[str, Any], *, unknown: Literal["ignore", "error"] = "ignore"
    ) -> InferenceModelRewrite:
        """
        Read a rewrite as the API server would take it.

        Raises:
            InvalidDocumentError: Something is wrong; it tells everything that is.
        """
        root = Reader.of(document)
        version = root.text("apiVersion", "", required=True, one_of=OBJECTIVE_VERSIONS) or ""
        root.text("kind", required=True, one_of=("InferenceModelRewrite",))
        meta = ObjectMeta.read(root)
        spec = root.child("spec", required=True)
        pool, rules = PoolReference(name=""), []
        if spec is not None:
            pool = PoolReference.read(spec)
            rules = list(map(RewriteRule.read, spec.items("rules", required=True) or []))
            spec.done()
        conditions = read_status(root, PENDING)
        root.done()
        return root.finish(
            source_of("InferenceModelRewrite", document),
            unknown,
            lambda: cls(metadata=meta, pool_ref=pool, rules=rules, conditions=conditions, api_version=version),
        )

    def to_dict(self) -> dict[str, Any]:
        """Give the document."""
        spec = {"poolRef": self.pool_ref.to_dict(), "rules": [rule.to_dict() for rule in self.rules]}
        return with_status(self.api_version, "InferenceModelRewrite", self.metadata, spec, self.conditions)
