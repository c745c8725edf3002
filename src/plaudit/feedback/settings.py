"""What an admin can change about the whole project."""

from pydantic import Field, field_validator

from plaudit.core.config import Config


class GroupQuestion(Config):
    """A question about the labeler's group, which everybody may leave unanswered."""

    key: str = Field(description="Name in reports, such as age.", pattern=r"^[a-z][a-z0-9_]{0,39}$")
    text: str = Field(description="The question.", min_length=1, max_length=300)
    options: tuple[str, ...] = Field(description="Answers to choose from.", min_length=2, max_length=20)

    @field_validator("options")
    @classmethod
    def _tell_apart(cls, options: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(options)) < len(options) or any(not option.strip() or len(option) > 80 for option in options):
            raise ValueError("each option is another text of 1 to 80 characters")
        return options


class ProjectSettings(Config):
    """Settings of a project; they lie in its database."""

    contact: str = Field("", max_length=300, description="Whom labelers can ask, shown on their pages.")
    # Off by default: employees are hardly free to refuse an employer's question.
    group_questions: tuple[GroupQuestion, ...] = Field(
        (), max_length=10, description="Voluntary questions; none asks nothing."
    )
    smallest_group: int = Field(5, ge=3, le=1000, description="Groups of fewer people are never shown.")
    open_leases: int = Field(2, ge=1, le=20, description="Tasks that one member may hold at once.")

    @field_validator("group_questions")
    @classmethod
    def _keys_differ(cls, questions: tuple[GroupQuestion, ...]) -> tuple[GroupQuestion, ...]:
        if len({question.key for question in questions}) < len(questions):
            raise ValueError("two group questions have the same key")
        return questions
