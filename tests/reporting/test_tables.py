from src.reporting.tables import markdown_table


def test_a_cell_stays_one_cell() -> None:
    assert markdown_table(["a|b", "c\nd"], [["|", "1\r\n2"]]) == "| a\\|b | c d |\n|---|---|\n| \\| | 1 2 |\n"
