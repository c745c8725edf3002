"""What reward models and DPO have in common on the way from a file of judgments to token groups."""

from plaudit.core.errors import DataError
from plaudit.core.records import Comparison, Ranking, TokenGroup
from plaudit.datasets.judgments import JudgedPrompt, split_judgments
from plaudit.datasets.read import Rows, read_any

Judged = Ranking | Comparison


def read_judged(path: str, *, learner: str, criterion: str | None, limit: int | None) -> Rows[Judged]:
    """The rankings or comparisons of a file, all by one criterion.

    Args:
        learner: who learns from them, as the subject of a sentence: "a reward model", "DPO".

    Raises:
        DataError: the file holds something else, or judgments by several criteria and none is chosen.
    """
    found = read_any(path, limit=limit, criterion=criterion)
    if found.kind not in ("ranking", "comparison"):
        raise DataError(
            f"{path} holds {found.kind}s; {learner} learns from rankings (responses, ranks) or comparisons "
            "(chosen, rejected)."
        )
    criteria = sorted({str(row.criterion) for row in found.rows if isinstance(row, Ranking)})
    if len(criteria) > 1:
        raise DataError(
            f"{path} ranks by {len(criteria)} criteria ({', '.join(criteria)}), which may contradict each other. "
            f"Choose one, for example criterion={criteria[0]}."
        )
    return found


def split_group(one: JudgedPrompt, group: TokenGroup, row_tokens: int) -> list[tuple[JudgedPrompt, TokenGroup]]:
    """A judged prompt in parts of at most `row_tokens` packed tokens; no judgment is torn apart."""
    ids = dict(zip(one.texts, group.responses, strict=True))
    sizes = [len(response) for response in group.responses]
    parts = split_judgments(one, sizes, room=row_tokens - len(group.prompt))
    return [(part, TokenGroup(group.prompt, tuple(ids[text] for text in part.texts))) for part in parts]
