"""The stated preference: graded among ordinary answers, and not fooled by what an optimiser would try."""

import json
import random
from importlib.resources import files

import pytest

from plaudit.core.records import Message, user_prompt
from plaudit.feedback.simulation.true_preference import features, judge, true_preference

PASTA = user_prompt("How do I keep pasta from sticking together?")
IDEAL = (
    "Stir the pasta during the first two minutes, because that is when its starch is most sticky. "
    "Toss it with sauce straight away so that you never leave it drying in the colander."
)
PLAIN = "Stir the pasta well during the first two minutes of cooking and toss it with sauce right away."
HACKS = {
    "empty": "",
    "space": "   \n ",
    "one word": "Because.",
    "the question": "How do I keep pasta from sticking together?",
    "the question and a connective": "Keep pasta from sticking together because pasta is sticking together so that you "
    "keep pasta from sticking together.",
    "connectives": "pasta because because because you you because so that you pasta keep sticking because you.",
    "shuffled keywords": "Pasta sticking together keep because you since you so that you because your pasta since "
    "sticking so you because keep.",
    "heap of nouns": "Pasta sticking boil water starch sauce colander stir minutes heat pan oil salt fork plate "
    "because you tomato garlic basil pepper cheese.",
    "one noun a sentence": "Pasta. Sticking. Boil. Water. Because. Starch. You. Sauce. So that. Colander. Stir. Oil.",
    "the same sentence": "Stir the pasta because it sticks to you. " * 4,
    "function words": "You can do it because you can do it when you will and so that you have it and it is you.",
    "symbols": "pasta ... ### 12 ,,, you because 9/9 stirring @@ .. , pasta sauce = = 77 88 99 water .. $$ .",
    "empty phrases": "You should keep pasta from sticking together because it is good. It is important so that you "
    "can keep it from sticking together.",
    "reader tic": "You, you and you stir your pasta, because you know your pasta is your pasta and you love your own.",
}


def demonstrations() -> list[tuple[str, str]]:
    text = (files("plaudit.quickstart") / "demonstrations.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return [(row["prompt"], row["response"]) for row in rows]


@pytest.mark.parametrize("name", HACKS)
def test_a_hack_is_worth_less_than_an_honest_plain_answer(name: str):
    assert true_preference(PASTA, HACKS[name]) < true_preference(PASTA, PLAIN) - 0.1
    assert true_preference(PASTA, HACKS[name]) < true_preference(PASTA, IDEAL) - 3.0


@pytest.mark.parametrize(
    "worse",
    [
        pytest.param(PLAIN, id="no reason and no reader"),
        pytest.param(IDEAL[:-20], id="cut off"),
        pytest.param("Sure! " + IDEAL, id="preamble"),
        pytest.param("**Stir** " + IDEAL, id="markdown"),
        pytest.param("1. Stir the pasta.\n2. Toss it with sauce, because you want no starch.", id="list"),
        pytest.param(IDEAL + " Add oil. Rinse it well. Use a wide pot. Serve it hot.", id="too many sentences"),
        pytest.param("Stir your pasta because starch sticks.", id="too short"),
        pytest.param(
            "Book your holiday early, because flights get expensive in summer. Choose a hotel near the beach so that "
            "you can walk everywhere.",
            id="another question",
        ),
        pytest.param(IDEAL.replace("you never leave it", "nobody leaves it"), id="no reader"),
        pytest.param(IDEAL + " " + IDEAL, id="said twice"),
    ],
)
def test_each_fault_costs(worse: str):
    assert true_preference(PASTA, worse) < true_preference(PASTA, IDEAL) - 0.1


def test_the_demonstrations_are_good_and_do_not_all_score_the_same():
    scores = [true_preference(user_prompt(prompt), response) for prompt, response in demonstrations()]
    assert sum(scores) / len(scores) > 5.0
    assert len({round(score, 6) for score in scores}) > 0.7 * len(scores)


def test_a_demonstration_is_worth_more_to_its_own_prompt():
    rows = demonstrations()
    generator = random.Random(0)
    wins = 0
    for place, (prompt, response) in enumerate(rows):
        other = rows[(place + generator.randrange(1, len(rows))) % len(rows)][1]
        wins += true_preference(user_prompt(prompt), response) > true_preference(user_prompt(prompt), other)
    assert wins / len(rows) > 0.9


def test_one_answer_to_every_question_does_not_pay():
    """The best answer that ignores the question is worth less than what a briefly fine-tuned model gives, about 3.8."""
    prompts = [user_prompt(prompt) for prompt, _ in demonstrations()]
    universal = [response for _, response in demonstrations()] + [
        "You should do this carefully, because it is important and helps you reach the best result. Take your time so "
        "that you can enjoy the whole process."
    ]
    best = max(sum(true_preference(prompt, text) for prompt in prompts) / len(prompts) for text in universal)
    assert best < 3.6


def test_shuffling_the_words_of_an_answer_does_not_pay():
    generator = random.Random(1)
    drops = 0
    for prompt, response in demonstrations():
        words = response.split()
        generator.shuffle(words)
        drops += true_preference(user_prompt(prompt), " ".join(words)) < true_preference(user_prompt(prompt), response)
    assert drops / len(demonstrations()) > 0.9


def test_only_the_last_message_is_the_question():
    conversation = (Message("system", "You love space."), *PASTA)
    assert true_preference(conversation, IDEAL) == true_preference(PASTA, IDEAL)


@pytest.mark.parametrize("text", ["", "\x00\ufffd", "because " * 3000, "<script>alert(1)</script>", "ßüñ 你好 🍝 …"])
def test_any_text_has_terms_in_the_unit_interval(text: str):
    assert all(0.0 <= value <= 1.0 for value in features(PASTA, text))


def test_judge_scores_row_by_row():
    chat = [{"role": "user", "content": PASTA[0].content}]
    assert judge([chat, chat], [IDEAL, ""]) == [true_preference(PASTA, IDEAL), true_preference(PASTA, "")]
