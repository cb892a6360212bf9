"""The keys of a configuration beside trainer, model and data, and the messages of the parser of all keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from unittest import mock

from jsonargparse import ArgumentError
from jsonargparse import Path as ConfigurationPath
from jsonargparse.typing import NonNegativeFloat, PositiveInt, restricted_number_type
from lightning.pytorch.cli import LightningArgumentParser

from src.core.arguments import explained
from src.core.documents import parsed_yaml
from src.core.errors import ConfigurationError, reported_error
from src.training.compilation import Compile

PROGRAM = "python -m src.cli"
Seed = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**32)])  # what NumPy takes


def add_seed(parser: LightningArgumentParser, default: bool | int) -> None:
    """Add the seed.

    Args:
        parser: of a subcommand.
        default: the seed without the key.
    """
    parser.add_argument("--seed_everything", type=Seed, default=default, help="The seed of all noise.")


def add_keys(parser: LightningArgumentParser) -> None:
    """Add the keys that every model has beside trainer, model and data.

    Args:
        parser: of a subcommand.
    """
    parser.add_argument("--task", type=str, required=True, help="The task: the data are data/prepared/TASK.")
    parser.add_argument(
        "--name",
        type=str | None,
        default=None,
        help="The name of the model: it is written to models/NAME; by default that of the task.",
    )
    parser.add_argument(
        "--monitor",
        type=str | None,
        default=None,
        help="The metric that chooses the best epoch; by default validation/loss, val_loss or the like. A "
        "module that logs none of them keeps its last epoch.",
    )
    parser.add_argument(
        "--mode",
        type=Literal["min", "max"] | None,
        default=None,
        help="Which end of it is best; by default max for accuracies, F1 and the like, otherwise min.",
    )
    parser.add_argument(
        "--threads", type=PositiveInt, default=1, help="CPU threads; another number rounds differently."
    )
    parser.add_argument(
        "--portable",
        type=bool | None,
        default=None,
        help="The same weights on all x86 processors with AVX2, by default for models of prepared data; "
        "false: all instructions of this one, as ordinary modules have by default.",
    )
    parser.add_argument(
        "--compile",
        type=Compile | None,
        default=None,
        help="true: compile the network for training by torch.compile (mode default). The weights are "
        "then the same on this machine alone; the bundle needs no compiler.",
    )
    parser.add_argument(
        "--checkpoint_seconds",
        type=NonNegativeFloat,
        default=10.0,
        help="The longest time from one checkpoint to the next, by whole epochs; saving that takes "
        "little of the time is done more often.",
    )
    parser.add_argument(
        "--checkpoint_steps",
        type=PositiveInt | None,
        default=None,
        help="Save a checkpoint within an epoch, too, after so many optimizer steps, for epochs that are "
        "long; by default at ends of epochs only. One process only.",
    )
    parser.add_argument(
        "--log_gradient_norms",
        type=bool,
        default=False,
        help="Add each layer's gradient norm and share of dead units to the history.",
    )


@contextmanager
def explained_errors(parsers: dict[str, LightningArgumentParser]) -> Iterator[None]:
    """Let the parser read files as UTF-8, and end its errors in one line.

    Args:
        parsers: of the subcommands by their names.

    Raises:
        ConfigurationError: an unknown key, or a value that cannot be used.
    """
    try:
        with mock.patch.object(ConfigurationPath, "read_text", _text_of):
            yield
    except ArgumentError as error:
        if (found := reported_error(error)) is not None:
            raise found from error
        command = next(iter(parsers)) if len(parsers) == 1 else ""
        keys = {action.dest for each in parsers.values() for action in each._actions}
        program = f"{PROGRAM} {command}".strip()
        raise ConfigurationError(explained(error, sorted(keys), program)) from error


def _text_of(path: ConfigurationPath) -> str:
    """The text of a configuration file, which is UTF-8 in every locale, and of bounded size and depth."""
    try:
        text = Path(str(path.absolute)).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path}: byte {error.start + 1} is not UTF-8; save the file as UTF-8"
        ) from None
    try:
        parsed_yaml(text)
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    return text
