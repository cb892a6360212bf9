"""Dates and times as seconds since 1970, and the parts of their calendar.

A time with an offset (`Z`, `+02:00`) is converted to UTC, one without is taken as it is written. No table of
time zones is read.
"""

import re
from datetime import UTC, date, datetime
from typing import Any, Literal

Part = Literal["year", "month", "day", "weekday", "hour", "elapsed"]
PARTS: tuple[Part, ...] = ("year", "month", "day", "weekday", "hour", "elapsed")
EPOCH = date(1970, 1, 1).toordinal()
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_MONTH = r"(?P<name>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DAYS = (
    r"(?P<year>\d{4})(?P<sign>[-/.])(?P<month>\d{1,2})(?:(?P=sign)(?P<day>\d{1,2}))?",
    r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})",
    r"(?P<year>\d{4})年(?P<month>\d{1,2})月(?:(?P<day>\d{1,2})日)?",
    r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4}|\d{2})",
    r"(?P<first>\d{1,2})(?P<sign>[-/])(?P<second>\d{1,2})(?P=sign)(?P<year>\d{4}|\d{2})",
    rf"(?P<day>\d{{1,2}})(?:st|nd|rd|th)?[-\s]*{_MONTH}[-,\s]*(?P<year>\d{{4}}|\d{{2}})",
    rf"{_MONTH}[-\s]*(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<year>\d{{4}})",
    rf"{_MONTH}[-,\s]*(?P<year>\d{{4}})",
)
_TIME = (
    r"(?:[t,]?\s*(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<seconds>\d{2})(?P<fraction>[.,]\d+)?)?"
    r"(?:\s?(?P<half>[ap])\.?m\.?)?(?:\s?(?P<zone>z|utc|[-+]\d{2}:?\d{2}))?)?"
)
DATES = [re.compile(rf"(?:[a-z]{{3,9}},?\s+)?{day}{_TIME}", re.I) for day in _DAYS]


def seconds_of(text: str, day_first: bool | None = None) -> float | None:
    """The seconds from 1970 to a date, UTC.

    Args:
        text: a date in numbers, English or Chinese, with or without a time; a month alone is its first day, a
            year of two digits up to 68 is of this century.
        day_first: whether 3/4/2024 is the 3rd of April.

    Returns:
        None if the text is no date, or may be two while `day_first` is None.
    """
    match = next((match for pattern in DATES if (match := pattern.fullmatch(text.strip()))), None)
    if match is None:
        return None
    found = match.groupdict()
    if "first" in found:
        if day_first is None:
            return None
        pair = (found["first"], found["second"])
        found["day"], found["month"] = pair if day_first else pair[::-1]
    year = int(found["year"])
    if len(found["year"]) == 2:
        year += 2000 if year <= 68 else 1900
    month = MONTHS.index(found["name"].lower()) + 1 if "name" in found else int(found["month"])
    try:
        days = date(year, month, int(found.get("day") or 1)).toordinal() - EPOCH
    except ValueError:
        return None
    return None if (time := _time_of(found)) is None else days * 86400 + time


def _time_of(found: dict[str, Any]) -> float | None:
    """The seconds since midnight UTC, 0 without a time; None if there is no such time."""
    hour, minute, seconds = (int(found[name] or 0) for name in ("hour", "minute", "seconds"))
    if found["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (found["half"].lower() == "p")
    if hour > 23 or minute > 59 or seconds > 59:
        return None
    zone = found["zone"] or "z"
    offset = 0
    if zone[0] in "+-":
        digits = zone[1:].replace(":", "")
        offset = int(zone[0] + "1") * (int(digits[:2]) * 3600 + int(digits[2:]) * 60)
    fraction = float((found["fraction"] or "0").replace(",", "."))
    return hour * 3600 + minute * 60 + seconds + fraction - offset


def date_text(seconds: float) -> str:
    """A date as ISO 8601 writes it, with the time to the second if it is not midnight."""
    days, rest = divmod(round(seconds), 86400)
    ordinal = min(max(int(days) + EPOCH, 1), date.max.toordinal())  # float32 may have rounded it
    text = date.fromordinal(ordinal).isoformat()
    if not rest:
        return text
    return f"{text} {datetime.fromtimestamp(rest, UTC):%H:%M:%S}"


def calendar(seconds: Any, part: Part) -> Any:
    """A part of dates, with the operators that arrays and tensors of float64 share.

    Args:
        seconds: since 1970.
        part: year, month (1 to 12), day (1 to 31), weekday (0 is Monday), hour, or elapsed: days since 1970.

    Returns:
        As `seconds`, NaN where it is.
    """
    if part == "elapsed":
        return seconds / 86400
    days = seconds // 86400
    if part == "hour":
        return (seconds - days * 86400) // 3600
    if part == "weekday":
        return days + 3 - (days + 3) // 7 * 7
    # of a year that begins in March (Hinnant, "chrono-Compatible Low-Level Date Algorithms")
    shifted = days + 719468
    era = shifted // 146097
    day_of_era = shifted - era * 146097
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    number = (5 * day_of_year + 2) // 153
    if part == "day":
        return day_of_year - (153 * number + 2) // 5 + 1
    month = number + 3 - 12 * (number // 10)
    return month if part == "month" else year_of_era + era * 400 + 1 - (month + 9) // 12
