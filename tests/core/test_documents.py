"""JSON and YAML of unknown origin."""

import pytest

from src.core.documents import parsed_json, parsed_yaml

BOMB = "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_yaml_with_few_aliases_is_read() -> None:
    assert parsed_yaml("x: &x {a: 1}\ny: *x\nz: {<<: *x, b: [1.5, null]}\n") == {
        "x": {"a": 1},
        "y": {"a": 1},
        "z": {"a": 1, "b": [1.5, None]},
    }
    assert parsed_yaml("") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "more than 100,000 values"),
        (BOMB.replace("[*", "[x, *"), "more than 100,000 values"),
        ("&a [*a]", "more than 100,000 values"),
        ("[" * 2000, "nested too deeply"),
        ("{", "expected"),
        ("\0", "#x0000"),
        ("!!python/object:os.system {}", "could not determine a constructor"),
    ],
)
def test_yaml_that_takes_memory_or_is_none_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parsed_yaml(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 200_000, "nested too deeply"),
        ('["\\ud800"]', "half of a surrogate pair"),
        ("1" * 5000, "4300 digits"),
        ("{", "Expecting"),
    ],
)
def test_json_that_cannot_be_used_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parsed_json(text)


def test_whole_surrogate_pairs_are_read() -> None:
    assert parsed_json('"\\ud83d\\ude00"') == "\U0001f600"
