"""What a training that ends by an error of Lightning, torch or W&B says."""

from collections.abc import Iterator

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from src.core.errors import ConfigurationError, NonFiniteError
from src.training.failures import interruptions, refusal
from src.training.non_finite_loss import NonFiniteLossGuard


class Experiment:
    """Such as a run of W&B."""


def test_a_writer_of_tensorboard_that_is_absent_is_named_with_the_key() -> None:
    with pytest.raises(AttributeError) as caught:
        Experiment().add_histogram("weights", 1)  # type: ignore[attr-defined]
    assert refusal(caught.value) == (
        "self.logger.experiment has no add_histogram, which is TensorBoard's: set trainer.logger: "
        "TensorBoardLogger (it needs the package tensorboard), or use self.log"
    )


@pytest.mark.parametrize("name", ["added_scalar", "add_module", "shape"])
def test_other_missing_attributes_are_mistakes_of_the_module(name: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(Experiment(), name)
    assert refusal(caught.value) is None


def test_what_lightning_refuses_is_said() -> None:
    error = MisconfigurationException("no GPU is here")
    assert refusal(error) == "Lightning refuses the configuration: no GPU is here"


@pytest.fixture
def deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.usefixtures("deterministic")
def test_an_operation_that_is_not_deterministic_is_named() -> None:
    trainer = Trainer(logger=False, enable_checkpointing=False)
    with (
        pytest.raises(
            ConfigurationError,
            match=r"^trainer.deterministic: put_ is not deterministic on this device; use another",
        ),
        interruptions(trainer),
    ):
        torch.zeros(2).put_(torch.tensor([0, 0]), torch.ones(2))


def test_a_loss_may_be_a_vector_with_a_gradient_of_its_own() -> None:
    trainer = Trainer(logger=False, enable_checkpointing=False)
    guard, module = NonFiniteLossGuard(), LightningModule()
    guard.on_before_backward(trainer, module, torch.tensor([1.0, 2.0]))
    with pytest.raises(NonFiniteError, match="train/loss became nan in epoch 1, step"):
        guard.on_before_backward(trainer, module, torch.tensor([1.0, torch.nan]))
