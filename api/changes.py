"""Changes to a search or to its clone. Absent fields stay as they are."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paretofit.api.problems import InvalidError
from paretofit.api.schemas.problems import FieldProblem
from paretofit.db.tables import SearchRow
from paretofit.search.contracts.spec import Label, Limits, SearchSpec

_LABELS: Final = 32


class _Changes(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    labels: dict[Label, Label | None] | None = Field(
        default=None, max_length=_LABELS, description="Labels to set; null removes one."
    )
    limits: Limits | None = Field(default=None, description="Limits to set; null removes one.")

    def labels_of(self, row: SearchRow) -> dict[str, str]:
        """The labels of a search with these changes. Raises InvalidError if they are too many."""
        merged = {**row.labels, **(self.labels or {})}
        kept = {name: value for name, value in merged.items() if value is not None}
        if len(kept) > _LABELS:
            detail = f"too many labels: {len(kept)} of at most {_LABELS}; remove some with null"
            raise InvalidError(detail, errors=[FieldProblem(pointer="/labels", detail=detail)])
        return kept

    def limits_of(self, row: SearchRow) -> Limits:
        """The limits of a search with these changes."""
        changed = {} if self.limits is None else self.limits.model_dump(exclude_unset=True)
        return Limits.model_validate(row.limits | changed)


class SearchChanges(_Changes):
    """Changes to a search. Only the name and labels of a finished search can change."""

    priority: int | None = Field(default=None, ge=0, le=9, description="Higher runs earlier.")


class CloneChanges(_Changes):
    """Differences of a clone from its search."""

    seed: int | None = Field(default=None, ge=0, lt=2**31)

    def spec_of(self, row: SearchRow) -> SearchSpec:
        """The specification of the clone. Raises InvalidError if this release no longer supports it."""
        fields: dict[str, Any] = {name: row.spec[name] for name in SearchSpec.model_fields if name in row.spec}
        fields |= {
            "name": self.name or row.name,
            "labels": self.labels_of(row),
            "limits": self.limits_of(row).model_dump(),
            "priority": row.priority,
        }
        if self.seed is not None:
            fields["seed"] = self.seed
        try:
            return SearchSpec.model_validate(fields)
        except ValidationError as error:
            raise InvalidError(f"this release no longer supports the specification of the search: {error}") from error
