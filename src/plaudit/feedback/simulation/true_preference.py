"""The preference the simulated labelers have in common: a stated utility of (prompt, response), in plain Python.

People's preferences are unknown and can only be asked for. Here the preference is known, so that a whole loop can be
judged by the very thing the labels were a noisy view of. No training stage may read this module; only the final judge
of a quickstart and tests do.

The utility prefers a short, direct, complete answer on the topic of the question that speaks to the reader and gives a
reason::

    utility = natural * (0.35 + 0.65 topic) * (0.6 + 0.4 complete) * (0.5 + 0.5 brief)
              * (2.5 reason + 1.0 length + 1.0 substance + 1.5 reader)
              + 0.5 complete + 0.5 brief - 1.0 dressing - 1.5 (1 - natural)

Every term is in [0, 1]. The factors are there because adding counts is easily gamed: a well-formed answer to another
question, one that is cut off or goes on and on, a text that repeats itself or the question, a heap of keywords without
grammar: each loses the credit it was after.
"""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from plaudit.core.records import Prompt, prompt_of_turns


def _word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FUNCTION_WORDS = _word_set(
    """
    a about after again all also an and any are as at be because been before being but by can could did do does doing
    don't down each every few for from had has have he her here him his how i if in into is it it's its just let's like
    may me might more most much must my no nor not now of off on once one only or other our out over own s she should so
    some such t than that the their them then there these they this those to too under until up us very was we were what
    when where which while who why will with without would you your you're yours since otherwise
    """
)
# Words of an instruction ("write a message to ...") that an answer need not take up.
_INSTRUCTION_WORDS = _word_set(
    """
    way good best better thing things make get give tell help explain write rewrite plan note message short simple
    politely clearly tone turn improve text line sentence two difference between use using need want know keep
    """
)
_REASON = re.compile(
    r"\b(because|since|so that|otherwise|which means|that way)\b|, so\b(?! (?:much|many|far|long)\b)", re.IGNORECASE
)
_READER = re.compile(r"\b(you|your|yours|yourself)\b", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*")
_SENTENCE_END = re.compile(r"[.!?]+[\"”')]*(?=\s|$)")
_COMPLETE = re.compile(r"[.?!][\"”')]*$")
_LIST_LINE = re.compile(r"^\s*(?:[-*•#>|]|\d+[.)]\s|[A-Za-z][.)]\s)", re.MULTILINE)
_INLINE_MARKUP = re.compile(r"\*\*|__|`|^#|\]\(|<[a-z/]", re.MULTILINE)
_PREAMBLE = re.compile(
    r"^\W*(?:sure|certainly|of course|absolutely|great question|here (?:are|is)|here's|as an? (?:ai|language)"
    r"|i'm sorry,? but|i apologi[sz]e|i'd be happy|i can help|hello|hi\b|the answer is|to answer)",
    re.IGNORECASE,
)


class Features(NamedTuple):
    """The terms of the utility, each in [0, 1]; higher is better except for `dressing`."""

    topic: float
    reason: float
    length: float
    substance: float
    reader: float
    complete: float
    brief: float
    dressing: float
    natural: float


def true_preference(prompt: Prompt, response: str) -> float:
    """The utility of `response` to the last message of `prompt`, from -2.5 (worthless) to 7 (ideal)."""
    f = features(prompt, response)
    earned = 2.5 * f.reason + 1.0 * f.length + 1.0 * f.substance + 1.5 * f.reader
    kept = f.natural * (0.35 + 0.65 * f.topic) * (0.6 + 0.4 * f.complete) * (0.5 + 0.5 * f.brief)
    return kept * earned + 0.5 * f.complete + 0.5 * f.brief - 1.0 * f.dressing - 1.5 * (1.0 - f.natural)


def judge(chats: Sequence[Sequence[Mapping[str, str]]], responses: Sequence[str]) -> list[float]:
    """`true_preference` of each pair, as a judge: `judge=plaudit.feedback.simulation.true_preference:judge`."""
    prompts = [prompt_of_turns(chat) for chat in chats]
    return [true_preference(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]


def features(prompt: Prompt, response: str) -> Features:
    """Measure `response` against the last message of `prompt`."""
    question = _words(prompt[-1].content)
    words = _words(response)
    text = response.strip()
    if len(words) < 4:
        # Too short to answer anything; also keeps the ratios below away from zero denominators.
        return Features(0, 0, 0, 0, 0, 0, 0, 0, 0)
    asked = {_stem(word) for word in question if _is_content(word) and word not in _INSTRUCTION_WORDS}
    content = [_stem(word) for word in words if _is_content(word)]
    added = set(content) - {_stem(word) for word in question}
    return Features(
        topic=min(1.0, len(asked & set(content)) / min(2, len(asked))) if asked else 1.0,
        reason=_reason(text, asked),
        length=1.0 / (1.0 + ((len(words) - 30) / 15) ** 4),
        substance=1.0 - math.exp(-len(added) / 5.0),
        reader=_reader(text, len(words)),
        complete=1.0 if _COMPLETE.search(text) else 0.0,
        brief=1.0 / (1.0 + max(0, _sentences(text) - 2)) ** 2,
        dressing=_dressing(text),
        natural=_distinct(words)
        * _grammatical(text, len(content) / len(words))
        * _own_words(question, words)
        * _alphabetic(text),
    )


def _words(text: str) -> list[str]:
    return [word.lower().replace("’", "'") for word in _WORD.findall(text)]


def _is_content(word: str) -> bool:
    return word not in _FUNCTION_WORDS and len(word) > 2


def _stem(word: str) -> str:
    """A rough stem of at most five letters: "plants" meets "planting", and "patient" meets "patience"."""
    word = word.removesuffix("'s")
    for suffix in ("ingly", "edly", "ing", "ies", "ied", "ely", "ed", "es", "ly", "s", "e", "y"):
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word.removesuffix(suffix)
            break
    return word[:5]


def _reason(text: str, asked: set[str]) -> float:
    """Up to 1 for a connective between a clause and a clause that adds content; more than two reasons earn less."""
    found = list(_REASON.finditer(text))
    if not found:
        return 0.0
    worth = 0.0
    for match in found[:4]:  # with more than four, the division below has taken the credit away
        before = _words(re.split(r"[.!?]", text[: match.start()])[-1])
        after = _words(re.split(r"[.!?]", text[match.end() :])[0])
        fresh = {_stem(word) for word in after if _is_content(word)} - asked
        # "Because" may also open the sentence; then the clause after it must carry both halves.
        enough_before = len(before) >= 3 or len(after) >= 9
        worth = max(worth, min(1.0, len(fresh) / 3.0) * (1.0 if enough_before else 0.2))
    return worth / (1.0 + max(0, len(found) - 2))


def _reader(text: str, words: int) -> float:
    """Speaks to the reader once or more; past one word in eight it is a tic, and counts less."""
    mentions = len(_READER.findall(text))
    if mentions == 0:
        return 0.0
    return min(1.0, 0.6 + 0.2 * mentions) * min(1.0, words / 8 / mentions)


def _sentences(text: str) -> int:
    """Sentences; one that runs past 40 words counts again for every further 40."""
    parts = [part for part in _SENTENCE_END.split(text) if _WORD.search(part)]
    return sum(1 + (len(_WORD.findall(part)) - 1) // 40 for part in parts)


def _dressing(text: str) -> float:
    """1 for a list, markdown or a preamble, 0.5 for exclamation marks or line breaks."""
    if _LIST_LINE.search(text) or _INLINE_MARKUP.search(text) or _PREAMBLE.search(text):
        return 1.0
    return 0.5 if "!" in text or "\n" in text else 0.0


def _distinct(words: list[str]) -> float:
    """1 when no word pair and hardly any content word comes twice, towards 0 for text that repeats itself."""
    pairs = list(itertools.pairwise(words))
    pair_share = len(set(pairs)) / len(pairs)
    content = [_stem(word) for word in words if _is_content(word)]
    content_share = len(set(content)) / len(content) if content else 0.0
    stutter = sum(first == second for first, second in pairs) / len(pairs)
    # A natural answer of 30 words has about 0.97 distinct pairs and 0.85 distinct content words.
    return _ramp(pair_share, 0.6, 0.95) * _ramp(content_share, 0.4, 0.75) * (1.0 - stutter)


def _grammatical(text: str, content_share: float) -> float:
    """1 for the mixture of content and function words that sentences have, towards 0 for heaps of either."""
    longest = 0
    for sentence in _SENTENCE_END.split(text):
        run = 0
        for word in _words(sentence):
            run = 0 if word in _FUNCTION_WORDS else run + 1
            longest = max(longest, run)
    return _ramp(content_share, 0.15, 0.3) * _ramp(1.0 - content_share, 0.15, 0.3) * _ramp(11 - longest, 0, 4)


def _own_words(question: list[str], words: list[str]) -> float:
    """1 when at most a tenth of the answer's word triples are the question's, towards 0 for a copy of it."""
    triples = list(zip(words, words[1:], words[2:], strict=False))
    copied = set(zip(question, question[1:], question[2:], strict=False))
    share = sum(triple in copied for triple in triples) / len(triples)
    return _ramp(1.0 - share, 0.45, 0.9)


def _alphabetic(text: str) -> float:
    """1 for ordinary prose, towards 0 for text full of digits and symbols."""
    visible = [character for character in text if not character.isspace()]
    plain = sum(character.isalpha() or character in ".,;:'’\"“”?-()" for character in visible)
    return _ramp(plain / len(visible), 0.7, 0.9)


def _ramp(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high`, linear between."""
    return min(1.0, max(0.0, (value - low) / (high - low)))
