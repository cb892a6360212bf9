"""How cells write numbers, dates and codes."""

from collections import Counter

import pytest

from src.tabular.notation import Notation, code_text, is_date, missing_mark, notations, plain_number


@pytest.mark.parametrize(
    ("text", "decimal", "thousands", "unit", "plain"),
    [
        ("1,5", ",", None, "", "1.5"),
        ("1.234,5", ",", ".", "", "1234.5"),
        ("1,234", ".", ",", "", "1234"),
        ("12 345", ".", " ", "", "12345"),
        ("12\u00a0345", ".", " ", "", "12345"),
        ("12'345.6", ".", "'", "", "12345.6"),
        ("1,2", ".", ",", "", None),  # no group of three
        ("12,34,567", ".", ",", "", None),
        ("0,125", ".", ",", "", None),
        ("37%", ".", None, "%", "37"),
        ("-$1,200", ".", ",", "$", "-1200"),
        ("120 kg", ".", None, "kg", "120"),
        ("120", ".", None, "kg", None),
        ("\u22125", ".", None, "", "-5"),
        ("five", ".", None, "", None),
    ],
)
def test_a_number_is_rewritten_with_a_point(
    text: str, decimal: str, thousands: str | None, unit: str, plain: str | None
) -> None:
    assert plain_number(text, decimal, thousands, unit) == plain


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["1.267", "950"], [(".", None, "", 1.267), (",", ".", "", 1267)]),
        (["1,267", "950"], [(",", None, "", 1.267), (".", ",", "", 1267)]),
        (["1,5", "2"], [(",", None, "", 1.5)]),
        (["1.234,5", "2"], [(",", ".", "", 1234.5)]),
        (["1.234.567", "2"], [(",", ".", "", 1234567)]),
        (["12 345", "2"], [(".", " ", "", 12345)]),
        (["12'345", "2"], [(".", "'", "", 12345)]),
        (["37%", "4%", "50%"], [(".", None, "%", 37)]),
        (["$57,998.00", "$3.00", "$4.00"], [(".", ",", "$", 57998)]),
        ([f"{number} kg" for number in range(10)], [(".", None, "kg", 0)]),
        (["1.267", "2.345"], []),  # three decimals, as measured
        (["0.125", "3"], []),  # no group of digits begins with 0
        (["1.25", "3"], []),
        (["1", "2"], []),
        (["2WD", "4WD"], []),  # categories
        (["Q1", "Q2", "Q3"], []),
        (["<5", "3+", "1.2.3"], []),
        (["2024-05-03", "5/17/2024"], []),
    ],
)
def test_the_notations_of_a_column(texts: list[str], found: list[tuple[str, str | None, str, float]]) -> None:
    assert [(one.decimal, one.thousands, one.unit, one.value) for one in notations(texts)] == found


def test_a_notation_says_its_keys() -> None:
    assert Notation(",", ".", "kg", "1.200,5 kg", 1200.5).keys("weight") == {
        "decimal": ",",
        "thousands": ".",
        "units": {"weight": "kg"},
    }
    assert Notation(".", None, "", "1.267", 1.267).keys("weight") == {"decimal": "."}


@pytest.mark.parametrize(
    "text",
    [
        *("03 Jan 2024", "Jan 3, 2024", "2024-05", "2024-05-03 10:30", "5/17/2024", "3.5.24", "2024年5月3日"),
        *("10:35", "10:35 PM", "May 2024", "2024-05-03T10:30:00Z"),
    ],
)
def test_dates_and_times(text: str) -> None:
    assert is_date(text)


@pytest.mark.parametrize("text", ["1.5", "12", "2024", "May", "1.2.3", "5 kg", ""])
def test_what_is_no_date(text: str) -> None:
    assert not is_date(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("3.0", "3"),
        ("-3.00", "-3"),
        ("3", "3"),
        ("007", "007"),
        ("07.0", "07.0"),
        ("3.5", "3.5"),
        ("a.0", "a.0"),
    ],
)
def test_whole_numbers_are_one_code(text: str, code: str) -> None:
    assert code_text(text) == code


@pytest.mark.parametrize(
    ("texts", "mark"),
    [
        (["1", "2", "无"], "无"),
        (["1", "2", "3", "-", "-"], "-"),
        (["1", "x", "x"], None),  # half of the cells or more
        (["1", "2", "3", "4", "x", "y"], None),
        (["1", "2", "3+"], None),  # a value
        (["1", "2"], None),
    ],
)
def test_one_text_among_numbers_is_a_missing_mark(texts: list[str], mark: str | None) -> None:
    assert missing_mark(Counter(texts)) == mark
