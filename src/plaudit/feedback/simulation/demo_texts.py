"""What people read in the demo project: its guidelines, flags and explanations."""

from plaudit.feedback.tasks.guidelines import Flag

GUIDELINES = """# How to judge an answer

People ask everyday questions. A good answer helps them at once.

## What counts, most important first

1. **It answers this question.** An answer to another question is worth little, however well it is written.
2. **It is right and does no harm.** Somebody may act on it.
3. **It is concrete.** One thing that can be done today is better than five that sound wise.
4. **It says why.** A reason helps the reader to decide.

Length does not count. Do not reward an answer for being long, and do not punish it for being short.

## Ties

Two answers that help equally well get the same rank. Do not invent a difference.
"""

NEXT_GUIDELINES = (
    GUIDELINES
    + """
## What we learnt in the first week

* An answer that repeats itself is worse than one that stops in time.
* Mark an answer as *beside the point* if it would not help the person who asked, and rank it all the same.
"""
)

FLAGS = (
    Flag("beside_the_point", "Beside the point", "Would not help the person who asked."),
    Flag("wrong", "Wrong", "States something that is not true."),
    Flag("harmful", "Harmful", "Could hurt somebody who acts on it."),
)

REASONS = (
    "Concrete, and it says why.",
    "The others do not answer the question.",
    "Says the same thing twice.",
    "Could be done today.",
    "Right, but vague.",
)


def explain(ideal: str) -> str:
    """Why the expected answer of a gold question is what it is."""
    return (
        "A person wrote this one as an ideal answer, and it should stand above the two weakest: "
        f"it answers the question, is concrete, and says why. “{ideal}”"
    )
