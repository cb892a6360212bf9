import pytest

from src.reporting.tables import markdown_table, print_metrics


def test_a_cell_stays_one_cell() -> None:
    assert markdown_table(["a|b", "c\nd"], [["|", "1\r\n2"]]) == "| a\\|b | c d |\n|---|---|\n| \\| | 1 2 |\n"


def test_many_metrics_have_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    few = {f"test/m{number}": float(number) for number in range(6)} | {"baseline/b/m0": 7.0}
    print_metrics("rows", few)
    assert "│ model │  0 │  1 │  2 │  3 │  4 │  5 │" in capsys.readouterr().out
    print_metrics("rows", {**few, "test/m6": 6.0})
    out = capsys.readouterr().out
    assert "│ m0 │     0 │ 7 │" in out
    assert "│ m6 │     6 │   │" in out


def test_optional_columns_without_a_text_are_left_out() -> None:
    rows = [["x", "", "1"], ["y", "", ""]]
    assert (
        markdown_table(["a", "b", "c"], rows, optional=["b", "c"])
        == "| a | c |\n|---|---|\n| x | 1 |\n| y |  |\n"
    )
    assert markdown_table(["a", "b"], [["x", ""]]) == "| a | b |\n|---|---|\n| x |  |\n"
