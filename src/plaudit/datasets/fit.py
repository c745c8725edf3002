"""Fitting token groups into a model's context. Nothing is ever cut short.

A response cut at the limit would lose its end of turn, and a model trained on it would learn not to stop. So what does
not fit is left out as a whole, and counted.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from plaudit.core.errors import DataError
from plaudit.core.records import TokenGroup

PROMPT_TOO_LONG = "prompt too long"
RESPONSE_TOO_LONG = "response too long"


@dataclass(frozen=True, slots=True)
class Fitted:
    """The groups that fit.

    indices[i]:   which of the given groups kept[i] was.
    responses[i]: which of that group's responses are left, in order (a ranking's ranks must follow).
    dropped:      number of groups that are gone.
    lost:         number of responses that are gone, with their group or without.
    by_cause:     responses lost for each cause; for comparisons also per side ("response too long: chosen").
    """

    kept: list[TokenGroup]
    indices: list[int]
    responses: list[tuple[int, ...]]
    dropped: int
    lost: int
    by_cause: dict[str, int]


def fit_groups(
    groups: Sequence[TokenGroup],
    max_tokens: int,
    *,
    max_lost: float = 0.05,
    sides: tuple[str, ...] = (),
    key: str = "max_tokens",
) -> Fitted:
    """Leave out what is longer than `max_tokens` (prompt and response together).

    A group whose prompt leaves no room goes as a whole. Of a ranking, single responses go as long as two remain; a
    pair or a demonstration goes as a whole. `sides` names the responses by position, ("chosen", "rejected") for
    comparisons, so that a limit which hits one side more often shows.

    Raises DataError if more than the share `max_lost` of all responses is lost, or nothing remains; `key` is the
    setting that the message tells the user to change.
    """
    kept: list[TokenGroup] = []
    indices: list[int] = []
    responses: list[tuple[int, ...]] = []
    causes: Counter[str] = Counter()
    longest = 0
    for index, group in enumerate(groups):
        room = max_tokens - len(group.prompt)
        lengths = [len(response) for response in group.responses]
        longest = max(longest, len(group.prompt) + max(lengths))
        fitting = tuple(i for i, length in enumerate(lengths) if length <= room)
        if room < 1:
            causes[PROMPT_TOO_LONG] += len(lengths)
            continue
        causes.update(_cause(i, sides) for i in range(len(lengths)) if i not in fitting)
        if len(fitting) < min(2, len(lengths)):
            if fitting:
                causes["left without a partner"] += len(fitting)
            continue
        kept.append(TokenGroup(group.prompt, tuple(group.responses[i] for i in fitting)))
        indices.append(index)
        responses.append(fitting)
    total = sum(len(group.responses) for group in groups)
    lost = sum(causes.values())
    if lost > max_lost * total or not kept:
        told = ", ".join(f"{cause}: {count}" for cause, count in causes.most_common()) or "there were none"
        raise DataError(
            f"{lost} of {total} responses do not fit into {key}={max_tokens} tokens ({told}); "
            f"at most {max_lost:.0%} may be lost. Raise {key} (the longest example has {longest} tokens) "
            "or shorten the data."
        )
    return Fitted(kept, indices, responses, len(groups) - len(kept), lost, dict(causes))


def _cause(position: int, sides: tuple[str, ...]) -> str:
    return f"{RESPONSE_TOO_LONG}: {sides[position]}" if sides else RESPONSE_TOO_LONG
