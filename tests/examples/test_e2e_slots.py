"""The slot-coverage rule: hand-written cases, then people's own sentences and flags."""

import itertools
import json
from gzip import open as gzip_open
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from plaudit.evaluation.statistics import clustered_proportion

FULL = (
    "name[The Mill], eatType[pub], food[French], priceRange[less than £20], customer rating[3 out of 5], "
    "area[riverside], familyFriendly[no], near[Raja Indian Cuisine]"
)
GOOD = (
    "The Mill is a French pub by the river near Raja Indian Cuisine. It costs less than £20, has a customer rating of "
    "3 out of 5 and is not family-friendly."
)

# prompt, text, missing slots, invented facts
CASES = [
    (FULL, GOOD, (), ()),
    (FULL, GOOD.upper(), (), ()),
    (FULL, GOOD.replace("near Raja Indian Cuisine", ""), ("near",), ()),
    (FULL, GOOD.replace("Raja Indian Cuisine", "Burger King"), ("near",), ("place: burger king",)),
    (FULL, GOOD.replace("The Mill", "The Eagle"), ("name",), ("place: eagle",)),
    (FULL, GOOD.replace("French", "Italian"), ("food",), ("food: Italian",)),
    (FULL, GOOD.replace("not family", "family"), ("familyFriendly",), ("familyFriendly: yes",)),
    (FULL, GOOD.replace("less than £20", "more than £30"), ("priceRange",), ("priceRange: high",)),
    (FULL, GOOD.replace("3 out of 5", "5 out of 5"), ("customer rating",), ("customer rating: high",)),
    (FULL, GOOD.replace("by the river", "in the city centre"), ("area",), ("area: city centre",)),
    (FULL, "", ("name", "eatType", "food", "priceRange", "customer rating", "area", "familyFriendly", "near"), ()),
    # the same fact in other words
    ("name[Cotto], familyFriendly[yes]", "Cotto welcomes kids.", (), ()),
    ("name[Cotto], familyFriendly[yes]", "Bring your children to Cotto.", (), ()),
    ("name[Cotto], familyFriendly[no]", "Cotto is not a place for families.", (), ()),
    ("name[Cotto], familyFriendly[no]", "Cotto is for adults only.", (), ()),
    ("name[Cotto], familyFriendly[no]", "Cotto does not allow children.", (), ()),
    ("name[Cotto], familyFriendly[no]", "At Cotto kids are not welcome.", (), ()),
    ("name[Cotto], familyFriendly[no]", "Cotto is a non child-friendly place.", (), ()),
    (
        "name[Cotto], familyFriendly[yes], customer rating[low]",
        "Cotto has a low rating but is family friendly.",
        (),
        (),
    ),
    ("name[Cotto], priceRange[cheap]", "Cotto offers inexpensive meals.", (), ()),
    ("name[Cotto], priceRange[cheap]", "Cotto is low-priced.", (), ()),
    ("name[Cotto], priceRange[high]", "Cotto's prices are high.", (), ()),
    ("name[Cotto], priceRange[high]", "Cotto is in the high price range.", (), ()),
    ("name[Cotto], priceRange[moderate]", "Cotto is moderately priced.", (), ()),
    ("name[Cotto], priceRange[£20-25]", "Cotto has a price range of £20 to £25.", (), ()),
    ("name[Cotto], priceRange[moderate]", "Cotto has reasonable prices.", (), ()),
    ("name[Cotto], priceRange[cheap]", "Cotto has reasonable prices.", (), ()),
    ("name[Cotto], customer rating[average]", "Cotto is rated average by customers.", (), ()),
    ("name[Cotto], customer rating[high]", "Cotto is highly rated.", (), ()),
    ("name[Cotto], customer rating[low]", "Customers rate Cotto 1 out of 5.", (), ()),
    ("name[Cotto], customer rating[5 out of 5]", "Cotto is a 5-star place.", (), ()),
    ("name[Cotto], eatType[coffee shop]", "Cotto is a café.", (), ()),
    ("name[Cotto], eatType[restaurant]", "Cotto is an eatery.", (), ()),
    ("name[Cotto], near[Café Rouge]", "Cotto is close to Cafe Rouge.", (), ()),
    ("name[The Mill], area[city centre]", "Mill lies in the center of the city.", (), ()),
    # what must not be confused
    ("name[Cotto], customer rating[3 out of 5]", "Cotto has 3 out of 5 stars.", (), ()),
    ("name[Cotto], priceRange[high], customer rating[low]", "Cotto has high prices and a low customer rating.", (), ()),
    ("name[Cotto], customer rating[high]", "Cotto has a high customer rating.", (), ()),
    ("name[Cotto], customer rating[1 out of 5]", "Cotto has an average rating of 1 out of 5.", (), ()),
    ("name[Cotto], near[Burger King]", "Cotto is near Burger King.", (), ()),
    ("name[Cotto], near[All Bar One]", "Cotto is near All Bar One.", (), ()),
    ("name[Cotto], eatType[pub]", "Cotto is a pub, a restaurant of the old kind.", (), ()),
    # a slot given twice is two facts
    ("name[Cotto], area[riverside], area[city centre]", "Cotto is by the river.", ("area",), ()),
    # inventions outside the lists of places
    ("name[Cotto]", "Cotto is near Tesco.", (), ("place: Tesco",)),
]


@pytest.mark.parametrize(("prompt", "text", "missing", "invented"), CASES, ids=[case[1][:60] for case in CASES])
def test_cases(slots: ModuleType, prompt: str, text: str, missing: tuple[str, ...], invented: tuple[str, ...]):
    found = slots.coverage(prompt, text)
    assert sorted(found.missing) == sorted(missing)
    assert sorted(found.invented) == sorted(invented)


@pytest.mark.xfail(strict=True, reason="a place between the price and its level hides it")
def test_a_price_at_a_named_place(slots: ModuleType):
    assert slots.score("name[Cotto], priceRange[high]", "Prices at Cotto are high.") == 0.0


def test_score_counts_every_fault_once(slots: ModuleType):
    assert slots.score(FULL, GOOD) == 0.0
    assert slots.score(FULL, GOOD.replace("French", "Italian")) == -2.0
    assert slots.score(FULL, "") == -8.0


def test_judge_reads_the_last_message(slots: ModuleType):
    chat = [{"role": "system", "content": "name[Zizzi]"}, {"role": "user", "content": FULL}]
    assert slots.judge([chat, chat], [GOOD, ""]) == [0.0, -8.0]


@pytest.mark.parametrize("prompt", ["", "The Mill is a pub.", "name[The Mill], colour[red]"])
def test_a_prompt_that_is_no_list_of_facts_is_refused(slots: ModuleType, prompt: str):
    with pytest.raises(ValueError, match="slot"):
        slots.parse(prompt)


def rows(data_folder: Path, name: str) -> list[dict[str, Any]]:
    with gzip_open(data_folder / "e2e" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_people_leave_out_few_facts(slots: ModuleType, data_folder: Path):
    facts = missing = clean = 0
    demonstrations = rows(data_folder, "demonstrations")[::5]
    for row in demonstrations:
        found = slots.coverage(row["prompt"], row["response"])
        facts += len(found.present) + len(found.missing)
        missing += len(found.missing)
        clean += found.faults == 0
    # Measured on all rows: 0.010 and 0.860; what is left is mostly people's own mistakes and typing errors.
    assert missing / facts < 0.015
    assert clean / len(demonstrations) > 0.83


def test_the_rule_agrees_with_raters_more_than_raters_with_each_other(slots: ModuleType, data_folder: Path):
    flags: dict[tuple[str, str], list[bool]] = {}
    for row in rows(data_folder, "rankings"):
        for response in row["responses"]:
            if "flag" in response:
                flags.setdefault((row["prompt"], response["text"]), []).append(response["flag"] == "ok")
    by_rule, by_people = list[tuple[bool, str]](), list[tuple[bool, str]]()
    for (prompt, text), given in itertools.islice(flags.items(), 0, None, 4):
        fine = slots.coverage(prompt, text).faults == 0
        by_rule += [(flag == fine, prompt) for flag in given]
        by_people += [(a == b, prompt) for a, b in itertools.combinations(given, 2)]
    rule, people = (
        clustered_proportion([float(same) for same, _ in pairs], [prompt for _, prompt in pairs])
        for pairs in (by_rule, by_people)
    )
    # Measured on all texts: 0.751 and 0.637. Raters are noisy: the rule is nearer to each than they are to one another.
    assert rule.low is not None
    assert people.high is not None
    assert rule.value > 0.72
    assert rule.low > people.high
