"""Fields of a form: as settings take them, and as its page shows them again."""

from starlette.datastructures import FormData

from plaudit.web.visit import text_field


def number(text: str) -> int | float | str:
    """A number where the text is one. Anything else is for the settings to refuse, with the field's name."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def number_field(form: FormData, name: str) -> int | float | str:
    """A field that should hold a number."""
    return number(text_field(form, name).strip())


def typed(form: FormData) -> dict[str, str]:
    """All that was typed or chosen, for a page that shows its form again with what is wrong."""
    return {name: value for name, value in form.items() if isinstance(value, str)}


def ranks(form: FormData) -> dict[str, int]:
    """Response -> rank, of the fields `rank-…` that hold a number."""
    given = {name.removeprefix("rank-"): number_field(form, name) for name in form if name.startswith("rank-")}
    return {response_id: rank for response_id, rank in given.items() if isinstance(rank, int)}


def ticked(form: FormData, name: str) -> tuple[str, ...]:
    """The values of the boxes of this name that were ticked."""
    return tuple(value for value in form.getlist(name) if isinstance(value, str))


def page_number(page: int) -> int:
    """A page that can be asked for: the first one is 1."""
    return min(max(page, 1), 100_000)
