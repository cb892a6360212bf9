import pytest

from src.bundle.spreadsheets import as_text


@pytest.mark.parametrize("cell", ["=HYPERLINK(1)", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_formula_becomes_a_text(cell: str) -> None:
    assert as_text(cell) == "'" + cell


@pytest.mark.parametrize("cell", ["", "a=b", "春", "1", " =1"])
def test_other_texts_stay(cell: str) -> None:
    assert as_text(cell) == cell
