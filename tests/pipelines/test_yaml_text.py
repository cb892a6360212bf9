"""Entries of a YAML text are inserted and removed, and everything else stays byte for byte."""

import pytest
import yaml

from pipelines.new_task import with_task
from pipelines.yaml_text import with_line, without

PARAMETERS = """# mine
---
'tasks':   # kinds
      "a":   text   # one
      bcd: 'tabular'
      c: text
models:
      bcd: data/own # mine

# about a
a: { x: 1,y: 2 , z: [1,2,
    3],  n: null, t: ~}

# found: 3 rows
# found: 2 columns
bcd:
- {normal: {std: 1e-5}}
- 0010
  # the list ends here

c:
  prepare: &anchor >
    folded

    text

price: 😀

# compared
studies:
    s: {title: "\\u00e9"}
    # the second
    t:
      title: T
      grid: {a: [1,
        2]}
    u: 1
# the end
"""


@pytest.mark.parametrize("loader", ["python", "libyaml"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("path", "gone"),
    [
        (("tasks", "a"), '      "a":   text   # one\n'),
        (("tasks", "c"), "      c: text\n"),
        (("bcd",), "# found: 3 rows\n# found: 2 columns\nbcd:\n- {normal: {std: 1e-5}}\n- 0010\n"
                   "  # the list ends here\n\n"),
        (("c",), "c:\n  prepare: &anchor >\n    folded\n\n    text\n\n"),
        (("a",), "# about a\na: { x: 1,y: 2 , z: [1,2,\n    3],  n: null, t: ~}\n\n"),
        (("studies", "t"), "    # the second\n    t:\n      title: T\n      grid: {a: [1,\n        2]}\n"),
        (("studies", "u"), "    u: 1\n"),
        (("studies", "s"), '    s: {title: "\\u00e9"}\n'),
        (("studies", "v"), ""),
        (("nothing", "v"), ""),
        (("a", "x"), ""),  # in braces
    ],
)  # fmt: skip
def test_an_entry_goes_and_nothing_else(
    path: tuple[str, ...], gone: str, newline: str, loader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if loader == "python":
        monkeypatch.setattr("pipelines.yaml_text.LOADER", yaml.SafeLoader)
    assert PARAMETERS.count(gone) == 1 or not gone
    text = without(PARAMETERS.replace("\n", newline), *path)
    assert text == PARAMETERS.replace(gone, "", 1).replace("\n", newline)


@pytest.mark.parametrize(
    ("before", "path", "after"),
    [
        ("tasks: # mine\n  a: text\n\nb: 1\n", ("tasks", "a"), "tasks: {} # mine\n\nb: 1\n"),
        ("tasks :\n  # two\n  a: text\n", ("tasks", "a"), "tasks : {}\n  # two\n"),
        ("# scores\na: 1\n", ("a",), "# scores\n{}\n"),
        ("# scores\na: 1\nb: 2", ("a",), "# scores\nb: 2\n"),
        ("a: 1\n\nb: 2\n", ("b",), "a: 1\n"),
        ("a: {b: 1}\n", ("a", "b"), "a: {b: 1}\n"),
        ("", ("a",), ""),
    ],
)
def test_what_is_left_is_still_a_mapping(before: str, path: tuple[str, ...], after: str) -> None:
    text = without(before, *path)
    assert text == after
    assert isinstance(yaml.safe_load(text), dict) or not before


@pytest.mark.parametrize(
    "before",
    [
        "tasks:\n  a: text\nmodels:\n  a: data/own\na: 1\n",
        "tasks:\n  a: text # one\n  # two\nmodels:\n  a: data/own # mine\n\na: 1\n\n# two\nstudies: {}\n",
    ],
)
def test_a_task_that_was_inserted_leaves_no_trace(before: str) -> None:
    text = with_task(before, "b", "text", "# found\nb: 2\n")
    assert yaml.safe_load(text)["b"] == 2
    for path in (("tasks", "b"), ("models", "b"), ("b",)):
        text = without(text, *path)
    assert text == before


def test_a_line_can_follow_the_last_that_went() -> None:
    text = without("tasks: # mine\n    a: text\n", "tasks", "a")
    assert with_line(text, "tasks", "b", "text") == "tasks: # mine\n  b: text\n"
