import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from plaudit.core.seeding import derive

names = st.lists(st.text(max_size=5) | st.integers(), max_size=4).map(tuple)


@given(st.integers(0, 2**63 - 1), names, names)
def test_names_tell_generators_apart(seed: int, one: tuple[str | int, ...], other: tuple[str | int, ...]) -> None:
    assert 0 <= derive(seed, *one) < 2**63
    assert (derive(seed, *one) == derive(seed, *other)) == (
        one == other and [type(name) for name in one] == [type(name) for name in other]
    )


def test_seeds_are_the_same_in_every_process_and_version() -> None:
    assert derive(0, "sampling", 3) == 3530433862544259938
    command = [sys.executable, "-c", "from plaudit.core.seeding import derive; print(derive(0, 'sampling', 3))"]
    assert int(subprocess.run(command, capture_output=True, check=True).stdout) == derive(0, "sampling", 3)


def test_joined_names_and_numbers_as_text_are_different_generators() -> None:
    seeds = [derive(7), derive(7, 1), derive(7, "1"), derive(7, "a", "b"), derive(7, "ab"), derive(71)]
    assert len(set(seeds)) == len(seeds)
