"""How the cells of a table write numbers, dates and codes."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

MINUS = "\u2212"
THOUSANDS = {",": ",", ".": r"\.", " ": "[ \u00a0\u202f]", "'": "['\u2019]"}
# decimal sign and sign between groups of three digits, as countries write them
NOTATIONS = ((".", None), (",", None), (".", ","), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'"))
# a number in any notation, with a sign of a currency before it or a unit after it
WITH_UNIT = re.compile(
    rf"(?P<sign>[-+{MINUS}]?)\s*(?P<prefix>[A-Z]{{2}}\$|[A-Z]{{3}}(?=\s)|[^\w\s.,'<>=()/+-]{{1,2}})?\s*"
    rf"(?P<number>[-+{MINUS}]?(?:\d[\d.,'\u2019 \u00a0\u202f]*)?\d(?:[eE][-+]?\d+)?)\s*"
    r"(?P<suffix>[^\d\s.,'<>=()+-][^\d<>=()+]{0,11})?"
)
LEAST_SYMBOLS, LEAST_WORDS = 3, 10  # different numbers, from which on a unit is no part of a category
MOSTLY = 0.9

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_TIME = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:\s?[ap]\.?m\.?)?(?:\s?(?:z|utc|[-+]\d{2}:?\d{2}))?"
_DAY = "|".join(
    (
        r"\d{4}[-/]\d{1,2}(?:[-/]\d{1,2})?",
        r"\d{4}\.\d{1,2}\.\d{1,2}",
        r"\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})",
        rf"\d{{1,2}}(?:st|nd|rd|th)?[-\s]*{_MONTH}[-,\s]*(?:\d{{4}}|\d{{2}})",
        rf"{_MONTH}[-\s]*\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{4}}",
        rf"{_MONTH}[-,\s]*(?:\d{{4}}|'?\d{{2}})",
        r"(?:\d{4}年)?\d{1,2}月(?:\d{1,2}日)?",
    )
)
DATE = re.compile(rf"(?:[a-z]{{3,9}},?\s+)?(?:{_DAY})(?:[t,]?\s*{_TIME})?|{_TIME}", re.I)
CODE = re.compile(r"(-?(?:0|[1-9]\d*))\.0+")


@dataclass(frozen=True)
class Notation:
    """A way to read the texts of a column as numbers.

    Args:
        decimal: the sign before the fraction.
        thousands: the sign between groups of three digits; None if there is none.
        unit: the text before or after each number; empty if there is none.
        example: a text of the column.
        value: the number that it stands for.
    """

    decimal: str
    thousands: str | None
    unit: str
    example: str
    value: float

    def keys(self, column: str) -> dict[str, Any]:
        """The keys of `prepare.reading` for this notation."""
        keys: dict[str, Any] = {}
        if self.decimal != "." or (not self.thousands and not self.unit):
            keys["decimal"] = self.decimal
        if self.thousands:
            keys["thousands"] = self.thousands
        if self.unit:
            keys["units"] = {column: self.unit}
        return keys


@lru_cache
def _number(decimal: str, thousands: str | None) -> re.Pattern[str]:
    groups = rf"[1-9]\d{{0,2}}(?:{THOUSANDS[thousands]}\d{{3}})+|" if thousands else ""
    sign = re.escape(decimal)
    return re.compile(rf"[-+{MINUS}]?(?:(?:{groups}\d+)(?:{sign}\d*)?|{sign}\d+)(?:[eE][-+]?\d+)?")


def plain_number(text: str, decimal: str = ".", thousands: str | None = None, unit: str = "") -> str | None:
    """Rewrite a number with a decimal point and without the rest; None if the text is no such number."""
    if unit:
        sign, text = (text[0], text[1:].lstrip()) if text[:1] in "-+" + MINUS else ("", text)
        if text.startswith(unit):
            text = sign + text.removeprefix(unit).lstrip()
        elif text.endswith(unit):
            text = sign + text.removesuffix(unit).rstrip()
        else:
            return None
    if not _number(decimal, thousands).fullmatch(text):
        return None
    if thousands:
        text = re.sub(THOUSANDS[thousands], "", text)
    return text.replace(decimal, ".").replace(MINUS, "-")


def notations(texts: Iterable[str]) -> list[Notation]:
    """The notations in which the texts of a column are numbers.

    Args:
        texts: the cells, without the missing ones.

    Returns:
        None or one; or two, if points or commas may stand before a fraction or between groups of digits.
        Plain numbers have none. A tenth of the texts may be others. Texts with a unit are numbers if
        there are LEAST_SYMBOLS different ones, or LEAST_WORDS where the unit has letters.
    """
    texts = list(texts)
    matches = [match for text in texts if (match := WITH_UNIT.fullmatch(text))]
    if not matches or len(matches) < MOSTLY * len(texts):
        return []
    units = [match["prefix"] or match["suffix"] or "" for match in matches]
    unit = max(set(units), key=units.count)
    matches = [match for match, other in zip(matches, units, strict=True) if other == unit]
    if len(matches) < MOSTLY * len(texts) or any(match["prefix"] and match["suffix"] for match in matches):
        return []
    numbers = list(dict.fromkeys(match["number"] for match in matches))
    if unit and len(numbers) < (LEAST_WORDS if any(map(str.isalpha, unit)) else LEAST_SYMBOLS):
        return []
    found = [pair for pair in NOTATIONS if _fits(numbers, *pair)]
    if (".", None) in found and all("." in number for number in numbers):
        found = [(".", None)]  # three decimals in every cell: none shows a group of digits beside no group
    if not unit and found in ([], [(".", None)]):
        return []
    example = max(matches, key=lambda match: sum(not sign.isalnum() for sign in match["number"])).group()
    return [
        Notation(
            decimal, thousands, unit, example, float(plain_number(example, decimal, thousands, unit) or 0)
        )
        for decimal, thousands in found
    ]


def _fits(numbers: Collection[str], decimal: str, thousands: str | None) -> bool:
    """Whether all numbers are written so, and show it."""
    if not all(_number(decimal, thousands).fullmatch(number) for number in numbers):
        return False
    if thousands:
        return any(re.search(THOUSANDS[thousands], number) for number in numbers) and (
            decimal == "." or thousands == "." or any(decimal in number for number in numbers)
        )
    return decimal == "." or any(decimal in number for number in numbers)


def is_date(text: str) -> bool:
    """Whether a text is a date, a month of a year or a time, in numbers, English or Chinese."""
    return bool(DATE.fullmatch(text.strip()))


def code_text(text: str) -> str:
    """A whole number as texts of categories write it: `3.0`, as pandas writes a 3 beside a gap, is `3`."""
    match = CODE.fullmatch(text)
    return match[1] if match else text


def missing_mark(counts: Mapping[Any, int]) -> str | None:
    """The one text among the numbers of a column that stands for no value; None if there is no such text.

    Args:
        counts: the number of cells by their text, without the missing ones. More than half must be numbers. A
            text with a digit, such as `<5` or `3+`, says something about a value and is no such mark.
    """
    words = [text for text in counts if plain_number(text) is None]
    if len(words) != 1 or 2 * counts[words[0]] >= sum(counts.values()):
        return None
    return None if any(map(str.isdigit, words[0])) else words[0]
