from typing import Any

import pytest
import yaml

from src.preparation.proposals import Noted, as_yaml, count, listed, one_line, plain


def test_a_mapping_becomes_blocks_with_comments() -> None:
    mapping = {
        "target": Noted("price", "a guess"),
        "prepare": Noted({"drop": ["a", "b"], "rate": 0.005, "test": None, "files": {}}, "every key"),
    }
    assert as_yaml({"task": mapping}) == (
        "task:\n"
        "  target: price # a guess\n"
        "  prepare: # every key\n"
        "    drop: [a, b]\n"
        "    rate: 0.005\n"
        "    test: null\n"
        "    files: {}\n"
    )


ODD = ("yes", "null", "007", "1e5", "a: b", "a #b", "- a", "", " a ", "'", '"', "\\", "{a}", "[", "价格")


@pytest.mark.parametrize("name", [*ODD, "a\nb", "\x1b[1m", "${x}"])
def test_names_out_of_a_file_stay_what_they_are(name: str) -> None:
    noted = Noted(name, f"{name}\nx: 1 # {name}")
    mapping: dict[str, Any] = {name: noted, "list": [name], "block": {name: {name: 1}}}
    assert yaml.safe_load(as_yaml(mapping)) == plain(mapping)


def test_a_line_for_people_neither_ends_nor_steers_the_terminal() -> None:
    assert one_line("a\nb\x1b[1m\u2028c\x85\td  e") == "a b [1m c d e"
    assert listed(["a", "b", "c"], most=2) == "'a', 'b' and 1 more"
    assert [count(number, "class") for number in (1, 1200)] == ["1 class", "1,200 classes"]
