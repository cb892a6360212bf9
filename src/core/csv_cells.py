"""The cells of CSV files that Python's csv module reads."""

import csv

LONGEST_CELL = 1 << 24  # characters; the limit of the csv module itself is 131,072
csv.field_size_limit(LONGEST_CELL)


def csv_problem(error: csv.Error, key: str) -> str:
    """What is wrong with a CSV file, and the key of `prepare` that reads quotes as other signs."""
    problem = str(error)
    if "field limit" in problem:
        problem = f"a cell has more than {LONGEST_CELL:,} characters"
    return f"{problem}; a quote may be missing; where quotes are signs of the cells, set `{key}`"
