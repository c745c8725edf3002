"""Expected answers of gold questions, and how an answer is scored against one. No database here."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Self

from pydantic import Field, model_validator

from plaudit.core.config import Config


class Constraint(Config):
    """One response should be ranked above another."""

    better: str = Field(description="Id of the response that should be ranked higher.")
    worse: str = Field(description="Id of the response that should be ranked lower.")
    weight: float = Field(1.0, gt=0, le=100, description="How much this counts in the score.")


class FlagRule(Config):
    """A flag that a response must, or must not, be given."""

    response: str = Field(description="Id of the response.")
    flag: str = Field(description="Key of a flag of the guidelines.")
    weight: float = Field(1.0, gt=0, le=100, description="How much this counts in the score.")


class Expected(Config):
    """What a careful labeler answers. Only clear-cut pairs belong here: what is left out may be answered freely."""

    constraints: tuple[Constraint, ...] = Field((), description="Pairs of responses whose order is clear.")
    required: tuple[FlagRule, ...] = Field((), description="Flags that must be raised.")
    forbidden: tuple[FlagRule, ...] = Field((), description="Flags that must not be raised.")

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not (self.constraints or self.required):
            raise ValueError("a gold question needs a constraint or a required flag, otherwise everybody passes it")
        above = {(one.better, one.worse) for one in self.constraints}
        for better, worse in above:
            if better == worse or (worse, better) in above:
                raise ValueError(f"the constraints ask {better} to be both above and below {worse}")
        return self

    def response_ids(self) -> set[str]:
        """Every response that is mentioned."""
        pairs = {name for one in self.constraints for name in (one.better, one.worse)}
        return pairs | {rule.response for rule in (*self.required, *self.forbidden)}

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The same with response ids replaced: a duplicate text is shown as one card, under the id that was kept."""
        rules = {
            kind: [{**rule.model_dump(), "response": names.get(rule.response, rule.response)} for rule in found]
            for kind, found in (("required", self.required), ("forbidden", self.forbidden))
        }
        constraints = [
            {
                "better": names.get(one.better, one.better),
                "worse": names.get(one.worse, one.worse),
                "weight": one.weight,
            }
            for one in self.constraints
        ]
        return type(self).model_validate({"constraints": constraints, **rules})


class Check(NamedTuple):
    """How one constraint or flag was answered. `met` is 1, ½ (a tie where an order was expected) or 0."""

    kind: str  # "order", "required" or "forbidden"
    first: str  # response id: the one that should be better, or the flagged one
    second: str  # response id of the one that should be worse, or the key of the flag
    weight: float
    met: float


def checks(expected: Expected, tiers: Mapping[str, int], flags: Mapping[str, list[str]]) -> Iterator[Check]:
    """Each part of the expected answer with what became of it. An answer without ranking meets no order."""
    for one in expected.constraints:
        met = 0.0
        if one.better in tiers and one.worse in tiers:
            gap = tiers[one.worse] - tiers[one.better]
            met = 1.0 if gap > 0 else 0.5 if gap == 0 else 0.0
        yield Check("order", one.better, one.worse, one.weight, met)
    for rule in expected.required:
        yield Check("required", rule.response, rule.flag, rule.weight, float(rule.flag in flags.get(rule.response, [])))
    for rule in expected.forbidden:
        met = float(rule.flag not in flags.get(rule.response, []))
        yield Check("forbidden", rule.response, rule.flag, rule.weight, met)


def score(expected: Expected, tiers: Mapping[str, int], flags: Mapping[str, list[str]]) -> float:
    """Weighted share of the expected answer that was met, 0 to 1."""
    found = list(checks(expected, tiers, flags))
    return sum(check.weight * check.met for check in found) / sum(check.weight for check in found)
