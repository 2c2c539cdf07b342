"""The error of a number that is none: light, for programs that compute nothing."""

from collections.abc import Mapping
from typing import Any


class NonFiniteError(FloatingPointError):
    """A NaN or an infinity where a number belongs.

    Args:
        place: what and where, for a person.
        evidence: tensors to look at, by name; `pipelines.non_finite.keep_evidence` writes them.
    """

    def __init__(self, place: str, evidence: Mapping[str, Any]) -> None:
        super().__init__(place)
        self.evidence = evidence

    def __reduce__(self) -> tuple[type["NonFiniteError"], tuple[str, dict[str, Any]]]:
        """Another process learns the place; the evidence is kept where it was found."""
        return type(self), (str(self), {})
