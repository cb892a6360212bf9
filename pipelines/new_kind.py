"""Begin a kind of data with a LightningModule of one's own: python -m pipelines.new_kind sound."""

import shutil
from keyword import iskeyword
from pathlib import Path

import yaml
from filelock import Timeout
from jsonargparse import ArgumentParser

from pipelines.new_task import LOCK_FILE, LOCK_SECONDS, check_name, with_task
from pipelines.parameters import PARAMETERS, read_parameters
from src.core.atomic import file_written_whole, locked
from src.core.errors import ConfigurationError, LockedError, exit_with_message
from src.core.paths import CONFIGS

SOURCES, TESTS = Path("src"), Path("tests")
DESCRIPTION = """Write src/NAME/model.py with a small LightningModule and its data, configs/NAME.yaml, lines
of params.yaml, and a test that an interrupted training ends with the same weights. It trains at once, on
generated numbers; replace the classes by your own."""

INIT = '"""A kind of data of one\'s own: a LightningModule and its data in model.py."""\n'

MODEL = '''"""A model and its data. Both are a beginning: replace them by your own."""

import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

Batch = tuple[Tensor, Tensor]


class Rows(Dataset[Batch]):
    """Generated numbers in place of your files, which are in data/raw/NAME if `source` names their folder."""

    def __init__(self, rows: int, seed: int, augment: bool = False) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(rows) % 3
        self.features = torch.randn(rows, 8, generator=generator) + self.labels[:, None]
        self.augment = augment

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        features = self.features[index]
        if self.augment:  # draw from torch, NumPy or Python: every epoch repeats after an interruption
            features = features + 0.1 * torch.randn(8)
        return features, self.labels[index]


class Data(LightningDataModule):
    """The rows of training, validation and test.

    Args:
        batch_size: rows of a batch.
        workers: processes that load them.
    """

    def __init__(self, batch_size: int = 32, workers: int = 0) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.workers = workers

    def setup(self, stage: str) -> None:
        """Make the three parts."""
        self.train = Rows(240, seed=1, augment=True)
        self.validation = Rows(60, seed=2)
        self.test = Rows(60, seed=3)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches."""
        return DataLoader(self.train, self.batch_size, shuffle=True, num_workers=self.workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The rows that choose the best epoch."""
        return DataLoader(self.validation, self.batch_size)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The rows of the report."""
        return DataLoader(self.test, self.batch_size)

    predict_dataloader = test_dataloader


class Model(LightningModule):
    """A classifier.

    Args:
        width: of the hidden layer.
        dropout: share of its units that are left out in training.
        lr: learning rate.
    """

    def __init__(self, width: int = 16, dropout: float = 0.1, lr: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.net = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 3))
        self.example_input_array = torch.zeros(2, 8)  # for `python -m pipelines.export NAME`

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, 8) to logits (B, 3)."""
        logits: Tensor = self.net(features)
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        return self._judged(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the metrics of the validation; the epoch of the lowest validation/loss is kept."""
        self._judged(batch, "validation")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the metrics of the test."""
        self._judged(batch, "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The probabilities of the classes."""
        probabilities: Tensor = self(batch[0]).softmax(-1)
        return probabilities

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.lr)

    def _judged(self, batch: Batch, part: str) -> Tensor:
        features, labels = batch
        logits = self(features)
        loss = F.cross_entropy(logits, labels)
        accuracy = (logits.argmax(-1) == labels).float().mean()
        metrics = {f"{part}/loss": loss, f"{part}/accuracy": accuracy}
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss
'''

CONFIGURATION = """\
# The task NAME. Every argument of the two classes is a key.
task: NAME
trainer: {max_epochs: 10}
model: {class_path: src.NAME.model.Model, init_args: {width: 16}}
data: {class_path: src.NAME.model.Data, init_args: {batch_size: 32}}
"""

SECTION = """\
NAME:
  source: none # the data module brings its data | the path of a folder: its files are copied to data/raw/NAME
  files: {}
  prepare: {}
"""

TEST = '''"""An interrupted training of NAME ends with the weights of a whole one."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from src.cli import main
from src.NAME.model import Model

CONFIGURATION = Path(__file__).parents[2] / "configs" / "NAME.yaml"
OPTIONS = ["--trainer.max_epochs=4", "--checkpoint_seconds=0"]


class InterruptedError(Exception):
    pass


def fit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    main(["fit", f"--config={CONFIGURATION}", *OPTIONS])
    return load_file(folder / "models" / "NAME" / "model.safetensors")


@pytest.mark.usefixtures("settings_of_the_process")
def test_an_interrupted_training_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fit(tmp_path / "whole", monkeypatch)
    step = Model.training_step

    def interrupted(self: Model, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        if self.current_epoch == 2 and batch_idx == 1:
            raise InterruptedError
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Model, "training_step", interrupted)
    with pytest.raises(InterruptedError):
        fit(tmp_path / "cut", monkeypatch)
    monkeypatch.setattr(Model, "training_step", step)
    found = fit(tmp_path / "cut", monkeypatch)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
'''

COMMANDS = """\
pytest tests/NAME                                     # an interrupted training ends with the same weights
python -m src.cli fit --config configs/NAME.yaml      # train
dvc repro evaluate@NAME                               # fetch, prepare, train, evaluate
python -m src.cli predict --config configs/NAME.yaml  # predictions/NAME.csv
python -m pipelines.export NAME                       # exports/NAME: ONNX and torch.export"""


def new_kind(name: str) -> None:
    """Write a package of src/ with a model and its data, its configuration, its task and its test.

    Args:
        name: of the package and of its task.

    Raises:
        ConfigurationError: the name cannot be used, or is taken.
        LockedError: another process has been writing a task for long.
    """
    LOCK_FILE.parent.mkdir(exist_ok=True)
    try:
        with locked(LOCK_FILE, LOCK_SECONDS):
            _write_kind(name)
    except Timeout:
        raise LockedError(f"{PARAMETERS}: another process writes a task; wait for it to end") from None


def _write_kind(name: str) -> None:
    check_name(name)
    if iskeyword(name):
        raise ConfigurationError(f"name: '{name}' is a word of Python; choose another one")
    package, tests = SOURCES / name, TESTS / name
    for path in (package, package.with_suffix(".py"), tests):
        if path.exists():
            raise ConfigurationError(f"{path} exists; choose another name")
    text = _parameters(name)
    files = {
        package / "__init__.py": INIT,
        package / "model.py": MODEL,
        CONFIGS / f"{name}.yaml": CONFIGURATION,
        tests / f"test_{name}.py": TEST,
    }
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content.replace("NAME", name), encoding="utf-8")
        with file_written_whole(PARAMETERS) as file:
            file.write(text)
    except BaseException:
        for folder in (package, tests):
            shutil.rmtree(folder, ignore_errors=True)
        (CONFIGS / f"{name}.yaml").unlink(missing_ok=True)
        raise
    print(f"written: {', '.join(map(str, files))}, and the lines of {name} in {PARAMETERS}; next:\n")
    print(COMMANDS.replace("NAME", name))


def _parameters(name: str) -> str:
    """The text of params.yaml with the new task."""
    with PARAMETERS.open(encoding="utf-8", newline="") as file:
        text = with_task(file.read(), name, name, SECTION.replace("NAME", name))
    written = yaml.safe_load(text)
    unknown = set(written) - set(read_parameters()) - {name, "models"}
    if written.get("tasks", {}).get(name) != name or name not in written.get("models", {}) or unknown:
        raise ConfigurationError(
            f"{PARAMETERS}: under `tasks:` and `models:` lines `name: value` are expected"
        )
    return text


def main() -> None:
    """Entry point."""
    parser = ArgumentParser(prog="python -m pipelines.new_kind", description=DESCRIPTION)
    parser.add_argument("name", type=str, help="The name of the package and task: letters, digits and _.")
    new_kind(parser.parse_args()["name"])


if __name__ == "__main__":
    exit_with_message(main)
