"""The content of preprocessing.json: the starting point."""

from dataclasses import asdict, dataclass
from pathlib import Path

from src.core.documents import read_json, write_json

FILE = "preprocessing.json"


@dataclass(frozen=True)
class Preprocessing:
    """What the preparation of a task found.

    Args:
        start: the starting point, x1 and x2.
    """

    start: list[float]

    @classmethod
    def load(cls, folder: Path) -> "Preprocessing":
        """Read preprocessing.json in data/prepared/<task> or models/<model>.

        Raises:
            ConfigurationError: there is no such file.
            IntegrityError: it is not a JSON object.
        """
        return cls(**read_json(folder / FILE, f"prepare@{folder.name}"))

    def save(self, folder: Path) -> None:
        """Write preprocessing.json."""
        write_json(folder / FILE, asdict(self))
