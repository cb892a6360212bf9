"""A check of CSV files that pandas does not make."""

import csv
from pathlib import Path

from src.core.encodings import guess_encoding
from src.core.errors import DataError
from src.images.pictures import require_file


def encoding_error(path: Path) -> DataError:
    """The error for a file that is not UTF-8, with the command that converts it."""
    guess = guess_encoding(path.read_bytes())
    if guess is None:
        return DataError(f"{path}: not UTF-8; save it as UTF-8")
    return DataError(
        f"{path}: not UTF-8; it looks like {guess}: iconv -f {guess} -t UTF-8 {path.name} > utf8.csv"
    )


def require_csv(path: Path) -> None:
    """Raise a DataError if a file is missing, cut by semicolons, or its first row is longer than its header.

    pandas names the line of a later row that is too long, but drops the surplus cells if it is the first.
    """
    require_file(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = filter(None, csv.reader(file))
        try:
            header, first = next(rows, []), next(rows, [])
        except csv.Error as error:
            raise DataError(f"{path}: {error}") from None
        except UnicodeDecodeError:
            raise encoding_error(path) from None
    if len(header) == 1 and ";" in header[0]:
        raise DataError(f"{path}: the header is cut by semicolons; save the table with commas")
    if any(first[len(header) :]):  # empty cells are commas at the end of each row
        raise DataError(
            f"{path}: the header has {len(header)} cells, the first row {len(first)}; put a cell that has a "
            "comma into quotes"
        )
