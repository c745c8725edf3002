"""Slot coverage of a restaurant sentence: which facts of the prompt are missing, and which were invented.

A prompt lists facts, `name[The Mill], food[French], area[riverside]`; an answer should say each of them and no others.
The rule reads English by pattern, so it is a judge that costs nothing and cannot be argued with, and it knows only what
is written below. What it does not see: fluency, repetition, and invented facts outside the eight slots of the data.

Two values that say the same to a guest count as one: cheap and "less than £20", an average rating and "3 out of 5".
"Restaurant" is also the general word for all places here, so it is required where the prompt has it and never invented.

Use as a judge: `judge=examples/e2e/slots.py:judge`.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

NAMES = (
    "Alimentum", "Aromi", "Bibimbap House", "Blue Spice", "Browns Cambridge", "Clowns", "Cocum", "Cotto", "Fitzbillies",
    "Giraffe", "Green Man", "Loch Fyne", "Midsummer House", "Strada", "Taste of Cambridge", "The Cambridge Blue",
    "The Cricketers", "The Eagle", "The Golden Curry", "The Golden Palace", "The Mill", "The Phoenix", "The Plough",
    "The Punter", "The Vaults", "The Waterman", "The Wrestlers", "Travellers Rest Beefeater", "Wildwood", "Zizzi",
)  # fmt: skip
LANDMARKS = (
    "All Bar One", "Avalon", "Burger King", "Café Adriatic", "Café Brazil", "Café Rouge", "Café Sicilia", "Clare Hall",
    "Crowne Plaza Hotel", "Express by Holiday Inn", "Rainbow Vegetarian Café", "Raja Indian Cuisine", "Ranch",
    "The Bakers", "The Portland Arms", "The Rice Boat", "The Sorrento",
)  # fmt: skip

# Values of the data -> the level that a text can state in several ways.
PRICE_LEVEL = {
    "cheap": "low",
    "less than £20": "low",
    "moderate": "middle",
    "£20-25": "middle",
    "high": "high",
    "more than £30": "high",
}
RATING_LEVEL = {
    "low": "low",
    "1 out of 5": "low",
    "average": "middle",
    "3 out of 5": "middle",
    "high": "high",
    "5 out of 5": "high",
}

_LOW = r"low(?:er|est|ly)?|poor(?:ly)?|bad(?:ly)?|terrible"
_MIDDLE = r"average|averagely|moderate(?:ly)?|medium|mediocre|decent(?:ly)?|fair(?:ly)?|mid"
_HIGH = r"high(?:er|est|ly)?|excellent(?:ly)?|great|good|well|top|perfect|exceptional(?:ly)?"
_PRICE_NOUN = r"(?:pric(?:e|es|ed|ing)|costs?|priced)"
_PRICE_LINK = (
    r"(?:[ -]+(?:ranges?|level|band|is|are|of|in|the|an?|at|being|between|from|quite|very|rather|fairly|pretty|which"
    r"|that))*"
)
_POUNDS = r"(?:the )?(?:price of )?(?:£|l|gbp)? ?"
PRICE_PATTERNS = {
    "low": [
        r"\b(?:cheap\w*|inexpensive\w*|low[ -]?cost|budget)\b",
        rf"\blow(?:er)?[ -](?:in )?{_PRICE_NOUN}\b",
        rf"\b{_PRICE_NOUN}{_PRICE_LINK}[ -]+low\b",
        rf"(?:less than|under|below|lower than|up to|cheaper than|no more than|not more than) {_POUNDS}20(?!\d| ?-)",
    ],
    "middle": [
        r"\bmoderate(?:ly)?\b(?![ -]+(?:customer|rating|rated|review|expensive|cheap))",
        rf"\b(?:mid|medium|average|averagely|middle|fair(?:ly)?)[ -](?:range[ -])?{_PRICE_NOUN}\b",
        rf"\b{_PRICE_NOUN}{_PRICE_LINK}[ -]+(?:average|medium|moderate|middle|fair)\b",
        r"(?:£|l|gbp)? ?20 ?(?:-|–|—|to|and|through|gbp to) ?(?:£|l|gbp)? ?25\b",
    ],
    "high": [
        r"\bhigh pounds\b",
        r"\b(?:expensive|pricey|pricy|costly|overpriced|high[ -]?end)\b",
        rf"\bhigh(?:er|ly)?[ -](?:in )?{_PRICE_NOUN}\b",
        rf"\b{_PRICE_NOUN}{_PRICE_LINK}[ -]+high(?:er)?\b(?![ -]+(?:customer|rating|rated|review))",
        rf"(?:more than|over|above|exceeding|exceeds?|upwards of|higher than|at least) {_POUNDS}30(?!\d)",
        r"£ ?30 ?(?:\+|and (?:up|over|above)|or more|plus)",
    ],
}
# Words that people use of two levels: they state either, and contradict neither.
_VAGUE_PRICE = re.compile(r"\b(?:reasonab(?:le|ly)|affordab(?:le|ly))\b", re.IGNORECASE)
VAGUE_LEVELS = frozenset({"low", "middle"})

_RATING_NOUN = r"(?:rat(?:ed|ing|ings|e|es)|reviews?|reviewed|feedback|scores?|scored|stars?)"
_RATING_MIDDLE_WORDS = r"(?:(?:customers?|consumers?|users?|guests?|overall|quality|client|5|star|review)['’]?s?[ -]+)*"
_THEN_A_NUMBER = r"[ -]+(?:of|is|was|:)[ -]+(?:only )?(?:[1-5]|one|three|five)"
_RATING_LINK = (
    r"(?:[ -]+(?:of|is|are|was|were|as|a|an|at|being|been|has|have|it|by|from|with|only|very|quite|the|its|this|that|"
    r"customers?|consumers?|guests?|users?|rating|ratings|place|restaurant|pub|shop|also|just|in|which|be|to|relatively))*"
)


def _rating_patterns(words: str, number: str) -> list[str]:
    return [
        # not "an average rating of 1 out of 5", where the number counts
        rf"\b(?:{words})[ -]+{_RATING_MIDDLE_WORDS}{_RATING_NOUN}\b(?!{_THEN_A_NUMBER})",
        rf"\b{_RATING_NOUN}{_RATING_LINK}[ -]+(?:{words})\b(?![ -]+(?:in )?pric)",
        rf"(?<![\w£.-])(?:{number})[ -]*(?:out[ -]of|out|of|/|over)[ -]*(?:a[ -]+(?:possible[ -]+)?)?(?:5|five)\b",
        # not the scale: "3 out of 5 stars" is three
        rf"(?<![\w£.-])(?<!of )(?<!out )(?<!/ )(?<!/)(?:{number})[ -]*stars?\b(?! out of)",
    ]


RATING_PATTERNS = {
    "low": _rating_patterns(_LOW, "1|one"),
    "middle": _rating_patterns(_MIDDLE, "3|three"),
    "high": _rating_patterns(_HIGH, "5|five"),
}
AREA_PATTERNS = {
    "riverside": [r"\briver ?-?sides?\b", r"\briver\b"],
    "city centre": [
        r"\b(?:city|town)(?:'s)?[ -]*cent(?:re|er)\b",
        r"\bcent(?:re|er)\.? of (?:the )?(?:city|town|cambridge)\b",
    ],
}
FOOD_PATTERNS = {
    "Chinese": [r"\bchinese\b"],
    "English": [r"\benglish\b", r"\bbritish\b"],
    "Fast food": [r"\bfast[ -]?foods?\b"],
    "French": [r"\bfrench\b"],
    "Indian": [r"\bindian\b"],
    "Italian": [r"\bitalian\b", r"\bpizza\b", r"\bpasta\b"],
    "Japanese": [r"\bjapanese\b", r"\bsushi\b"],
}
TYPE_PATTERNS = {
    "coffee shop": [r"\bcoffee[ -]*(?:shop|house|bar|place)s?\b", r"\bcafes?\b"],
    "pub": [r"\bpubs?\b", r"\bbars?\b"],
    "restaurant": [r"\brestaurants?\b", r"\beater(?:y|ies)\b"],
}
_GUESTS = r"(?:famil(?:y|ies)|kids?|child|children|childs|childrens)"
_FAMILY = re.compile(rf"\b(?:{_GUESTS})\b(?:['’]s?\b)?", re.IGNORECASE)
_NEGATED_BEFORE = re.compile(
    r"(?:\b(?:not|no|non|never|isn['’]?t|doesn['’]?t|don['’]?t|aren['’]?t|isnt|cannot|can['’]?t|without|unfit|unsuitable|"
    r"discourages?|prohibits?|nor|neither|unfriendly|avoid|inappropriate)\b)"
    # a few words may stand between, but no new clause
    r"(?:[ -]+(?!and\b|but\b|it\b|its\b|has\b|however\b|with\b|yet\b)[\w'’]+){0,7}[ -]*$",
    re.IGNORECASE,
)
_NEGATED_AFTER = re.compile(
    r"^[ -]*(?:friendly[ -]*)?(?:unfriendly|(?:is|are|was|were|would)(?:[ -]+(?:not|never|prohibited|banned)|n['’]t)"
    r"|not\b|aren['’]?t|isn['’]?t|free\b(?! (?:meal|food|entry|drink))|(?:to|should) (?:avoid|not))",
    re.IGNORECASE,
)
_ADULTS = re.compile(
    r"\badults?[ -]+only\b|\bonly[ -]+(?:for )?adults?\b|\bfor adults\b|\badult (?:\w+ )?(?:venue|pub|place)\b", re.I
)
_NEAR_UNKNOWN = re.compile(
    r"\b(?:[Nn]ear(?:by)?|[Cc]lose to|[Nn]ext to|[Bb]eside)(?: to)? (?:the |The )?([A-Z][\w'’-]+)"
)
_FACT = re.compile(r"\s*([A-Za-z][A-Za-z ]*?)\s*\[([^\]]*)\]")


class Coverage(NamedTuple):
    """Facts of the prompt found and not found in the text, and facts in the text that the prompt does not hold.

    `missing` and `present` name slots; `invented` gives `slot: value` as read from the text.
    """

    present: tuple[str, ...]
    missing: tuple[str, ...]
    invented: tuple[str, ...]

    @property
    def faults(self) -> int:
        """Facts missing and facts invented together; a fact stated wrongly is both."""
        return len(self.missing) + len(self.invented)


def parse(prompt: str) -> dict[str, tuple[str, ...]]:
    """The facts of a prompt as slot -> values; a few prompts give a slot twice. No `slot[value]` at all: ValueError."""
    facts: dict[str, tuple[str, ...]] = {}
    for slot, value in _FACT.findall(prompt):
        facts[slot] = (*facts.get(slot, ()), value)
    if not facts:
        raise ValueError(f"no slot[value] in the prompt {prompt!r}")
    unknown = set(facts) - set(_SLOTS)
    if unknown:
        raise ValueError(f"unknown slot {', '.join(sorted(unknown))} in {prompt!r}; known: {', '.join(_SLOTS)}")
    return facts


def coverage(prompt: str, response: str) -> Coverage:
    """Compare a text with the facts of its prompt."""
    facts = parse(prompt)
    own = {_key(place) for slot in ("name", "near") for place in facts.get(slot, ())}
    plain = _plain(response)
    places = _places_in(plain, own)
    # Names hold words of other slots ("Raja Indian Cuisine", "Burger King", "All Bar One"): read the rest without them.
    rest = _without(plain, places)
    stated = {
        "eatType": _stated(TYPE_PATTERNS, rest),
        "food": _stated(FOOD_PATTERNS, rest),
        "priceRange": _stated(PRICE_PATTERNS, rest),
        "customer rating": _stated(RATING_PATTERNS, rest),
        "area": _stated(AREA_PATTERNS, rest),
        "familyFriendly": _family(rest),
        "name": places,
        "near": places,
    }
    present, missing = list[str](), list[str]()
    for slot, values in facts.items():
        for value in values:
            level = _level(slot, value)
            said = level in stated[slot] or (slot == "priceRange" and level in VAGUE_LEVELS and _is_vague_price(rest))
            (present if said else missing).append(slot)
    invented = [f"place: {place}" for place in sorted(places - own)]
    invented += [f"place: {found}" for found in _NEAR_UNKNOWN.findall(rest) if not _is_slot_word(found)]
    for slot in ("eatType", "food", "priceRange", "customer rating", "area", "familyFriendly"):
        given = {_level(slot, value) for value in facts.get(slot, ())}
        invented += [f"{slot}: {value}" for value in sorted(stated[slot] - given) if value != "restaurant"]
    return Coverage(tuple(present), tuple(missing), tuple(invented))


def score(prompt: str, response: str) -> float:
    """Minus the number of facts missing or invented: 0 is a complete and truthful text."""
    return -float(coverage(prompt, response).faults)


def judge(chats: Sequence[Sequence[Mapping[str, str]]], responses: Sequence[str]) -> list[float]:
    """`score` of each response to the last message of its conversation, as a judge function."""
    return [score(chat[-1]["content"], response) for chat, response in zip(chats, responses, strict=True)]


_SLOTS = ("name", "eatType", "food", "priceRange", "customer rating", "area", "familyFriendly", "near")


def _level(slot: str, value: str) -> str:
    """What a text must state for this value: a level, a class, or for places the comparison key."""
    if slot in ("name", "near"):
        return _key(value)
    if slot == "priceRange":
        return PRICE_LEVEL.get(value, value)
    return RATING_LEVEL.get(value, value) if slot == "customer rating" else value


def _plain(text: str) -> str:
    """Without accents, and with single spaces: "Café" and "Cafe" are the same place."""
    decomposed = unicodedata.normalize("NFKD", text.replace("£", "\0"))
    kept = "".join(character for character in decomposed if not unicodedata.combining(character))
    return re.sub(r"\s+", " ", kept.replace("\0", "£"))


def _key(name: str) -> str:
    """A place's name as it is compared: no accents, no case, no leading "the"."""
    return _plain(name).lower().removeprefix("the ").strip()


def _place_pattern(key: str) -> re.Pattern[str]:
    # "the wrestler's", "raja cuisine" and the like are other names; only the article and a possessive may vary
    words = r"[ -]+".join(re.escape(word) for word in key.split())
    return re.compile(rf"\b(?:the )?{words}(?:'s|’s)?(?!\w)", re.IGNORECASE)


_KNOWN_PLACES = {_key(name): _place_pattern(_key(name)) for name in (*NAMES, *LANDMARKS)}


def _places_in(text: str, own: set[str]) -> set[str]:
    patterns = _KNOWN_PLACES | {key: _place_pattern(key) for key in own}
    return {key for key, pattern in patterns.items() if pattern.search(text)}


def _without(text: str, places: set[str]) -> str:
    for key in sorted(places, key=len, reverse=True):
        text = _place_pattern(key).sub("it", text)
    return text


def _stated(patterns: Mapping[str, Sequence[str]], text: str) -> set[str]:
    return {value for value, forms in patterns.items() if any(re.search(form, text, re.IGNORECASE) for form in forms)}


def _is_vague_price(text: str) -> bool:
    return _VAGUE_PRICE.search(text) is not None


def _family(text: str) -> set[str]:
    """ "yes", "no", both or neither, from every mention of families, children and adults."""
    found = {"no"} if _ADULTS.search(text) else set[str]()
    for sentence in re.split(r"[.;!?]", text):
        for mention in _FAMILY.finditer(sentence):
            before, after = sentence[: mention.start()], sentence[mention.end() :]
            clause = re.split(r",", before)[-1]
            negated = _NEGATED_BEFORE.search(clause) or _NEGATED_AFTER.search(after)
            found.add("no" if negated else "yes")
    return found


def _is_slot_word(word: str) -> bool:
    return re.fullmatch(r"riverside|river|city|town|cent(?:re|er)|it", word, re.IGNORECASE) is not None
