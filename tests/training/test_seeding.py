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

from src.training.checkpoint import CHECKPOINT, DurableCheckpointIO, ResumableCheckpoint
from src.training.exactness import Exactness
from src.training.seeding import SeededLoader, seed_everything
from tests.training.ordinary import GAN, Autoencoder, Classifier, PointsData

EPOCHS = 4


class PowerFailureError(Exception):
    pass


class FailIn(lightning.Callback):
    """Fail in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.current_epoch == self.epoch and trainer.fit_loop.batch_idx == 2:
            raise PowerFailureError


def train(
    folder: Path,
    module: type[lightning.LightningModule],
    data: dict[str, Any],
    fail_in: int | None = None,
    monitor: str = "train_loss",
    **options: Any,
) -> dict[str, Tensor]:
    """Train from the checkpoint of the folder, if there is one; the weights."""
    lightning.seed_everything(3)
    model = module()
    callbacks = [Exactness(3, 1), ResumableCheckpoint(folder, monitor, "min", 0)]
    callbacks += [make() for make in options.pop("callbacks", [])]
    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        plugins=[DurableCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=callbacks + ([FailIn(fail_in)] if fail_in is not None else []),
        **options,
    )
    checkpoint = folder / CHECKPOINT
    random.seed(fail_in)  # what another process would have drawn before
    np.random.seed(fail_in)  # noqa: NPY002
    trainer.fit(
        model, PointsData(**data), ckpt_path=checkpoint if checkpoint.is_file() else None, weights_only=True
    )
    return model.state_dict()


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


@pytest.mark.parametrize("case", CASES)
def test_an_interrupted_training_ends_with_the_weights_of_a_whole_one(case: str, tmp_path: Path) -> None:
    module, data, options = CASES[case]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    expected = train(whole, module, data, **options)
    for epoch in (1, 3):
        with pytest.raises(PowerFailureError):
            train(cut, module, data, epoch, **options)
    found = train(cut, module, data, **options)
    assert (cut / CHECKPOINT).is_file()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


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
