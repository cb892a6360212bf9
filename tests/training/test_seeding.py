"""An ordinary module that is interrupted in any epoch ends with the weights of a whole training."""

import random
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor
from torch.utils.data import DataLoader

from src.training.checkpoint import CHECKPOINT, HISTORY, DurableCheckpointIO, ResumableCheckpoint
from src.training.exactness import Exactness
from src.training.seeding import SeededLoader, seed_everything
from tests.training.ordinary import GAN, Autoencoder, Classifier, PointsData

EPOCHS = 4


class PowerFailureError(Exception):
    pass


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
    trainer.fit(
        model, PointsData(**data), ckpt_path=checkpoint if checkpoint.is_file() else None, weights_only=True
    )
    return model.state_dict(), (folder / HISTORY).read_text(encoding="utf-8")


CASES: dict[str, tuple[type[lightning.LightningModule], dict[str, Any], dict[str, Any]]] = {
    "no workers": (Classifier, {"workers": 0}, {}),
    "one worker": (Classifier, {"workers": 1}, {}),
    "two workers": (Classifier, {"workers": 2}, {"accumulate_grad_batches": 2}),
    "workers that stay": (Classifier, {"workers": 1, "sampler": "persistent"}, {}),
    "a generator of its own": (Classifier, {"sampler": "own generator"}, {"val_check_interval": 2}),
    "weighted sampler": (Classifier, {"sampler": "weighted"}, {"monitor": "val_loss"}),
    "iterable": (Classifier, {"sampler": "stream"}, {}),
    "iterable, worker": (Classifier, {"sampler": "stream", "workers": 1}, {}),
    "averaged weights": (Classifier, {}, {"callbacks": [lambda: EMAWeightAveraging(decay=0.9)]}),
    "no validation": (Autoencoder, {}, {}),
    "two optimizers": (GAN, {}, {"monitor": "g_loss"}),
}


@pytest.mark.parametrize("steps", [None, 1, 2], ids=["ends of epochs", "each step", "each second step"])
@pytest.mark.parametrize("case", CASES)
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
            epoch, batches = saved_within(cut)
            assert epoch == place[0]
            assert place[1] - steps - 1 <= batches <= place[1]
    found, resumed = train(cut, module, data, steps=steps, **options)
    assert resumed == history
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def saved_within(folder: Path) -> tuple[int, int]:
    """The epoch and the number of its batches at a checkpoint."""
    checkpoint = torch.load(folder / CHECKPOINT, weights_only=True)
    return checkpoint["epoch"], checkpoint["within_epoch"]["batches"]


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
