"""Texts in CSV files that spreadsheets would compute."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_text(cell: str) -> str:
    """A cell with an apostrophe before it where a spreadsheet would take it for a formula (OWASP)."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell
