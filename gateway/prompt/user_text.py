"""What a person typed: made one line of clean text, and looked through. Pure.

Their words stay as they are; only what would break the prompt around them is changed.
"""

import re
import unicodedata
from functools import cache

_INCH = re.compile(r'(?<=[0-9])"')
_DETERMINED = re.compile(
    r"(the|an?|all|both|every|each|any|this|that|these|those|my|your|his|her|its|our|their)\b",
    re.IGNORECASE,
)
_PICTURE_NUMBER = re.compile(r"(?:\b(?:picture|image)|ภาพที่|รูปที่)\s*#?([23๒๓])(?!\d)", re.IGNORECASE)
# The text encoder's own markers (<|im_end|>, <|image_pad|>): as plain text they would end the
# instruction, or stand for a picture that is not there.
_MARKER = re.compile(r"<\|")
_THAI = re.compile(r"[\u0e00-\u0e7f]")
# A joiner holds an emoji of several together, and is needed in some scripts.
_KEPT_INVISIBLE = frozenset("\u200c\u200d")
_DOUBLE_QUOTES = "\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\uff02\u300c\u300d\u300e\u300f"
_SINGLE_QUOTES = "\u2018\u2019\u201a\u201b\u2032\uff07"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2212"
_ASCII = str.maketrans(
    {
        **dict.fromkeys(_DOUBLE_QUOTES, '"'),
        **dict.fromkeys(_SINGLE_QUOTES, "'"),
        **dict.fromkeys(_DASHES, "-"),
        "\u2026": "...",
    }
)


def tidy(text: str) -> str:
    """One line, NFC, with plain quotation marks and dashes, without invisible characters."""
    visible = "".join(_visible(char) for char in unicodedata.normalize("NFC", text))
    return " ".join(_MARKER.sub("< |", visible.translate(_ASCII)).split())


def _visible(char: str) -> str:
    match unicodedata.category(char):
        case "Cc":
            return " "
        case "Cf" if char not in _KEPT_INVISIBLE:
            return ""
    return char


def pair_quotes(text: str) -> tuple[str, bool]:
    """The text with its quotation marks in pairs, and whether one stood alone: an inch sign becomes
    `''`, any other the apostrophe."""
    if text.count('"') % 2 == 0:
        return text, False
    paired = _INCH.sub("''", text, count=1)
    if paired.count('"') % 2:
        head, _, tail = paired.rpartition('"')
        paired = f"{head}'{tail}"
    return paired, True


def lettering(text: str) -> str:
    """For between quotation marks: without those that the person put around it."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return text.replace('"', "'").strip()


def with_article(name: str) -> str:
    return name if _DETERMINED.match(name) else f"the {name}"


def sentence(text: str) -> str:
    return text if not text or text.endswith((".", "!", "?", '."', '!"', '?"')) else f"{text}."


def outside_quotes(prompt: str) -> str:
    """Joined by spaces; `prompt` has its quotation marks in pairs."""
    return " ".join(prompt.split('"')[::2])


def inside_quotes(prompt: str) -> str:
    return " ".join(prompt.split('"')[1::2])


def has_thai(text: str) -> bool:
    return bool(_THAI.search(text))


def strange_characters(text: str) -> list[str]:
    """Those that are neither ASCII, Thai, a Latin letter nor Chinese, each once."""
    strange = (
        char
        for char in text
        if not char.isascii()
        and not has_thai(char)
        and char not in _KEPT_INVISIBLE
        and not unicodedata.combining(char)
        and not unicodedata.name(char, "").startswith(("LATIN", "CJK", "VARIATION SELECTOR"))
    )
    return list(dict.fromkeys(strange))


def found_words(text: str, words: tuple[str, ...]) -> list[str]:
    """As they stand in the text, each once. English ones count as whole words, also with an s; Thai
    and Chinese, which have no spaces, anywhere."""
    return list(dict.fromkeys(_any_of(words).findall(text.casefold())))


@cache
def _any_of(words: tuple[str, ...]) -> re.Pattern[str]:
    english = "|".join(re.escape(word) for word in words if word.isascii())
    other = "|".join(re.escape(word) for word in words if not word.isascii())
    whole = rf"(?<![a-z0-9'-])(?:{english})s?(?![a-z0-9'-])"
    return re.compile(f"{whole}|{other}" if other else whole)


def picture_numbers(text: str) -> list[int]:
    """Of the second and third picture, where the text speaks of them."""
    return sorted({int(number) for number in _PICTURE_NUMBER.findall(text)})
