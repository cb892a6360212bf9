"""The cells of CSV files that Python's csv module reads."""

import csv

LONGEST_CELL = 1 << 24  # characters; the limit of the csv module itself is 131,072
csv.field_size_limit(LONGEST_CELL)


def csv_problem(error: csv.Error) -> str:
    """What is wrong with a CSV file."""
    if "field limit" in str(error):
        return f"a cell has more than {LONGEST_CELL:,} characters; a quote may be missing"
    return str(error)
