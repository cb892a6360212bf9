"""An ordinary module that is interrupted in any epoch ends with the weights of a whole training."""

import csv
import random
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, GradientAccumulationScheduler
from torch import Tensor
from torch.utils.data import DataLoader

from src.core.errors import ConfigurationError
from src.core.paths import CHECKPOINT, HISTORY
from src.training import plain_values
from src.training.attributes import Attributes
from src.training.checkpoint import ResumableCheckpoint
from src.training.exactness import Exactness, begin_loaders
from src.training.gradient_norms import GradientNorms
from src.training.seeding import SeededLoader, own_generators, seed_everything
from src.training.stored import DurableCheckpointIO
from tests.support import PowerFailureError
from tests.training.ordinary import (
    GAN,
    Autoencoder,
    Average,
    ByEpoch,
    ByStep,
    Carrying,
    Classifier,
    Collector,
    Dropping,
    OneCycle,
    Points,
    PointsData,
    Replaying,
    Stateful,
)

EPOCHS = 4


class FailIn(lightning.Callback):
    """Fail in the middle of an epoch."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.place = epoch, batch

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if (trainer.current_epoch, trainer.fit_loop.batch_idx) == self.place:
            raise PowerFailureError


def train(
    folder: Path,
    module: type[lightning.LightningModule],
    data: dict[str, Any],
    fail_in: tuple[int, int] | None = None,
    monitor: str = "train_loss",
    steps: int | None = None,
    **options: Any,
) -> tuple[dict[str, Tensor], str]:
    """Train from the checkpoint of the folder, if there is one; the weights and the history."""
    lightning.seed_everything(3)
    model = module()
    record = ResumableCheckpoint(folder, monitor, "min", 0, steps)
    if steps is not None:  # the checkpoint of an epoch's end is tested with steps=None
        record._due = lambda _: False  # type: ignore[method-assign]
    callbacks = [Exactness(3, 1), record]
    callbacks += [make() for make in options.pop("callbacks", [])]
    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        plugins=[DurableCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=callbacks + ([FailIn(*fail_in)] if fail_in is not None else []),
        **options,
    )
    checkpoint = folder / CHECKPOINT
    drawn = None if fail_in is None else sum(fail_in)  # what another process would have drawn before
    random.seed(drawn)
    np.random.seed(drawn)  # noqa: NPY002
    source = None if "train_dataloader" in vars(module) else PointsData(**data)
    trainer.fit(
        model, datamodule=source, ckpt_path=checkpoint if checkpoint.is_file() else None, weights_only=True
    )
    return model.state_dict(), (folder / HISTORY).read_text(encoding="utf-8")


CASES: dict[str, tuple[type[lightning.LightningModule], dict[str, Any], dict[str, Any]]] = {
    "no workers": (Classifier, {"workers": 0}, {}),
    "one worker": (Classifier, {"workers": 1}, {}),
    "two workers": (Classifier, {"workers": 2}, {"accumulate_grad_batches": 2}),
    "workers that stay": (Classifier, {"workers": 1, "sampler": "persistent"}, {}),
    "a generator of its own": (Classifier, {"sampler": "own generator"}, {"val_check_interval": 2}),
    "generators of the dataset": (Dropping, {"sampler": "own rngs"}, {}),
    "such generators, two workers": (Dropping, {"sampler": "own rngs", "workers": 2}, {}),
    "a plateau of epochs": (ByEpoch, {}, {"monitor": "val_loss"}),
    "weighted sampler": (Classifier, {"sampler": "weighted"}, {"monitor": "val_loss"}),
    "iterable": (Classifier, {"sampler": "stream"}, {}),
    "iterable, worker": (Classifier, {"sampler": "stream", "workers": 1}, {}),
    "averaged weights": (Classifier, {}, {"callbacks": [lambda: EMAWeightAveraging(decay=0.9)]}),
    "no validation": (Autoencoder, {}, {}),
    "two workers, three batches at once": (Classifier, {"workers": 2}, {"accumulate_grad_batches": 3}),
    "a sampler that draws lazily": (Classifier, {"sampler": "lazy"}, {}),
    "such a sampler, two workers": (Classifier, {"sampler": "lazy", "workers": 2}, {}),
    "two loaders": (Collector, {"sampler": "two loaders"}, {}),
    "two loaders, a worker": (Collector, {"sampler": "two loaders", "workers": 1}, {}),
    "logged and collected": (Collector, {}, {"monitor": "val_loss", "val_check_interval": 0.5}),
    "accumulation and validation together": (
        Classifier,
        {},
        {"monitor": "val_loss", "accumulate_grad_batches": 2, "val_check_interval": 2},
    ),
    "accumulation by epoch": (
        Classifier,
        {},
        {"callbacks": [lambda: GradientAccumulationScheduler({0: 1, 1: 2, 3: 1})]},
    ),
    "gradient norms": (Classifier, {}, {"callbacks": [GradientNorms]}),
    "a schedule over all steps": (OneCycle, {}, {}),
    "a plateau of steps": (ByStep, {}, {}),
    "two optimizers": (GAN, {}, {"monitor": "g_loss"}),
    "attributes and metrics over epochs": (Stateful, {"sampler": "by age"}, {"monitor": "val_loss"}),
    "private attributes, and buffers outside the state": (Carrying, {}, {}),
    "an average in a callback": (Classifier, {}, {"callbacks": [Average], "monitor": "val_loss"}),
    "such a sampler of two workers": (Stateful, {"sampler": "by age", "workers": 2}, {}),
}


QUICK = (
    "generators of the dataset",
    "a plateau of epochs",
    "no workers",
    "two workers",
    "iterable",
    "averaged weights",
    "logged and collected",
    "accumulation and validation together",
    "a schedule over all steps",
    "two optimizers",
    "attributes and metrics over epochs",
    "private attributes, and buffers outside the state",
    "an average in a callback",
)


@pytest.mark.parametrize("steps", [None, 1], ids=["ends of epochs", "each step"])
@pytest.mark.parametrize(
    "case", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_an_interrupted_training_ends_with_the_weights_of_a_whole_one(
    case: str, steps: int | None, tmp_path: Path
) -> None:
    module, data, options = CASES[case]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    expected, history = train(whole, module, data, **options)
    for place in ((1, 2), (1, 4), (3, 5)):
        with pytest.raises(PowerFailureError):
            train(cut, module, data, place, steps=steps, **options)
    if steps is not None:
        assert within_epoch(cut)
    found, resumed = train(cut, module, data, steps=steps, **options)
    assert resumed == history
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def within_epoch(folder: Path) -> bool:
    """Whether the checkpoint of a folder is of the last epoch, before its end."""
    checkpoint = torch.load(folder / CHECKPOINT, weights_only=True)
    return checkpoint["epoch"] == 3 and checkpoint["within_epoch"]["batches"] > 0


def test_data_that_are_loaded_anew_in_each_epoch_are_loaded_as_often(tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": {"sampler": "more each epoch"}, "reload_dataloaders_every_n_epochs": 1}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    expected, history = train(whole, Classifier, **options)
    for place in ((1, 0), (2, 3)):
        with pytest.raises(PowerFailureError):
            train(cut, Classifier, fail_in=place, **options)
    found, resumed = train(cut, Classifier, **options)
    assert resumed == history
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_buffer_of_named_tuples_that_is_trained_from_survives(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    expected, history = train(whole, Replaying, {})
    for place in ((1, 1), (3, 2)):
        with pytest.raises(PowerFailureError):
            train(cut, Replaying, {}, place)
    found, resumed = train(cut, Replaying, {})
    assert resumed == history
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_what_no_checkpoint_has_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path, Replaying, {})
    lines = [record.getMessage() for record in caplog.records if "no checkpoint has" in record.getMessage()]
    assert [line.partition(": ")[0] for line in lines] == [
        "Replaying.views (list)",
        "Replaying.more (_SingleProcessDataLoaderIter)",
    ]


class Phase(Enum):
    WARM_UP = 1
    FULL = 2


def attributes_of(module: lightning.LightningModule) -> Attributes:
    """Those of a module without loaders and callbacks, at the start of `fit`."""
    progress = SimpleNamespace(current=SimpleNamespace(processed=0, completed=0))
    loop = SimpleNamespace(_combined_loader=None, epoch_progress=progress)
    loop.epoch_loop = SimpleNamespace(_results={})
    trainer: Any = SimpleNamespace(fit_loop=loop, callbacks=[])
    return Attributes(trainer, module)


def test_what_the_validation_before_the_training_changes_is_in_a_checkpoint() -> None:
    module: Any = Classifier()
    module.best = module.started = 0.0
    attributes = attributes_of(module)
    module.best = 1.0
    module.seen = 2
    attributes.keep_changes()
    module.started = 5.0  # as hooks of the start do
    attributes.begin()
    assert attributes.state(within=False)["values"] == {("", "best"): 1.0, ("", "seen"): 2}


def test_a_member_of_an_enumeration_is_named_and_stays_what_it_is(caplog: pytest.LogCaptureFixture) -> None:
    module: Any = Classifier()
    module.phase = Phase.WARM_UP
    attributes = attributes_of(module)
    module.phase = Phase.FULL
    assert attributes.state(within=False)["values"] == {}
    attributes.warn_of_others()
    assert caplog.messages[0].startswith("Classifier.phase (Phase): the training changes")


class Exchange(lightning.Callback):
    """Puts weights of 0 into the module while it is validated."""

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.weights = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}
        for parameter in pl_module.parameters():
            parameter.data.zero_()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        pl_module.load_state_dict(self.weights)


def test_the_weights_that_are_kept_are_those_that_a_callback_has_validated(tmp_path: Path) -> None:
    kept, _ = train(tmp_path, Classifier, {}, monitor="val_loss", callbacks=[Exchange])
    assert not kept["net.0.weight"].any()


class Notes(lightning.Callback):
    """Notes the weights at the last validation of each epoch."""

    def __init__(self) -> None:
        self.seen: dict[int, Tensor] = {}

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.seen[trainer.current_epoch + 1] = pl_module.state_dict()["net.0.weight"].clone()


def test_the_weights_that_are_kept_are_those_of_a_validation_within_the_epoch(tmp_path: Path) -> None:
    notes = Notes()
    kept, history = train(
        tmp_path, Classifier, {}, monitor="val_loss", callbacks=[lambda: notes], val_check_interval=4
    )
    rows = list(csv.DictReader(history.splitlines()))
    best = min(rows, key=lambda row: float(row["val_loss"]))
    assert torch.equal(kept["net.0.weight"], notes.seen[int(best["epoch"])])


def test_a_generator_behind_many_rows_is_found() -> None:
    rows = SimpleNamespace(
        samples=[(f"{row}.png", row) for row in range(20_000)], rng=np.random.default_rng(0)
    )
    assert own_generators(rows) == [rows.rng]


@pytest.mark.parametrize(("mode", "start"), [("max_size", 3), ("max_size_cycle", 2)])
def test_a_shorter_loader_goes_on_where_it_was(mode: str, start: int) -> None:
    loader = SeededLoader([1, 2, 3], lambda: (0,))
    loop = SimpleNamespace(is_resuming=True, restarted_mid_epoch=True, _data_fetcher=[])
    loop._combined_loader = SimpleNamespace(_mode=mode, flattened=[loader])
    loop.epoch_loop = SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(completed=5)))
    begin_loaders(SimpleNamespace(fit_loop=loop))  # type: ignore[arg-type]
    assert loader.start == start


def test_a_data_set_in_memory_is_in_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_values, "LARGE", 100)
    train(tmp_path, Stateful, {"sampler": "by age"})
    stored = torch.load(tmp_path / CHECKPOINT, weights_only=True)["attributes"]["values"]
    assert stored["", "steps"] == 24
    assert len(stored["helper", "recent"]["loss"]["items"]) == 3
    assert len(stored["", "losses"]) == 24  # large, and changed
    assert not [name for owner, name in stored if "dataset" in owner]


def test_a_state_of_the_data_that_would_be_another_within_an_epoch_is_refused(tmp_path: Path) -> None:
    record = ResumableCheckpoint(tmp_path, None, "min", 0, steps=1)
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.reload_dataloaders_every_n_epochs = 1  # type: ignore[attr-defined]
    trainer.datamodule = PointsData()  # type: ignore[attr-defined]
    with pytest.raises(
        ConfigurationError, match=r"PointsData\.state_dict with reload_dataloaders_every_n_epochs"
    ):
        record.setup(trainer, Classifier(), "fit")


def test_the_batches_of_an_epoch_depend_on_its_number_alone() -> None:
    epoch = 0
    loader = SeededLoader(DataLoader(range(20), batch_size=5, shuffle=True), lambda: (1, epoch))  # type: ignore[arg-type]
    first = torch.cat(list(loader))
    epoch = 1
    second = torch.cat(list(loader))
    seed_everything(8)
    epoch = 0
    assert len(loader) == 4
    assert torch.cat(list(loader)).equal(first)
    assert not second.equal(first)
    assert sorted(first.tolist()) == list(range(20))


def rows_fetched(loader: SeededLoader, start: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows that a dataset was asked for from a batch on."""
    asked: list[int] = []
    get = Points.__getitem__
    monkeypatch.setattr(Points, "__getitem__", lambda self, row: asked.append(row) or get(self, row))
    loader.start = start
    list(loader)
    monkeypatch.setattr(Points, "__getitem__", get)
    return asked


def test_the_batches_before_the_first_one_are_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = SeededLoader(DataLoader(Points(), batch_size=8, shuffle=True), lambda: (1, 0))
    whole = rows_fetched(loader, 0, monkeypatch)
    assert len(whole) == 48
    assert rows_fetched(loader, 4, monkeypatch) == whole[32:]
    assert rows_fetched(loader, 0, monkeypatch) == whole


@pytest.mark.parametrize("start", [1, 2, 5])
def test_workers_fetch_the_same_batches_from_any_start(start: int) -> None:
    data = Points(augment=True)
    loader = SeededLoader(DataLoader(data, batch_size=8, shuffle=True, num_workers=2), lambda: (1, 0))
    whole = [x for x, _ in loader]
    loader.start = start
    later = [x for x, _ in loader]
    assert len(later) == 6 - start
    assert all(map(torch.equal, later, whole[start:]))


def test_the_number_of_workers_has_no_effect() -> None:
    epochs = [
        list(
            SeededLoader(
                DataLoader(Points(augment=True), batch_size=8, shuffle=True, num_workers=workers),
                lambda: (1, 0),
            )
        )
        for workers in (0, 1, 2)
    ]
    first = torch.cat([x for x, _ in epochs[0]])
    assert first.shape == (48, 6)
    for epoch in epochs[1:]:
        assert torch.cat([x for x, _ in epoch]).equal(first)
