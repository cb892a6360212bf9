"""The LightningModule that classifies images.

B batch, C channels, H height, W width, K classes
"""

import warnings
from typing import Any, Literal

import torch
from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional

from src.core.errors import ConfigurationError
from src.images.augmentation import Augmentation
from src.images.data import ImageData
from src.images.networks import NetworkCallable
from src.images.preprocessing import Preprocessing
from src.images.pretrained import Frozen, load_pretrained
from src.training.distributed import mean_over_processes
from src.training.epoch_outputs import EpochOutputs
from src.training.metrics import classification_metrics
from src.training.optimizers import ParameterGroups, optimizer_and_schedule
from src.training.overhead import log_epoch

Batch = tuple[Tensor, Tensor]


class ImageModel(LightningModule):
    """A classifier of images. Batches are uint8 and scaled here, on the device.

    Args:
        preprocessing: of the prepared data; it has the shape, the classes and the scaling.
        network: LeNet, ConvNet, MLP or TorchvisionNetwork of src.images.networks, or a module of your own
            that is built from (C, H, W) and K; it maps (B, C, H, W) to logits (B, K). If it has a method
            `loss(logits, target, label_smoothing)`, that replaces the cross-entropy.
        augmentation: of training images; null for none.
        label_smoothing: of the cross-entropy.
        optimizer: one of torch.optim.
        lr_scheduler: one of torch.optim.lr_scheduler.
        lr_interval: "epoch" or "step", when the schedule advances.
        parameter_groups: settings of the optimizer for parameters by name, such as
            `[{pattern: 'bias|Norm', weight_decay: 0}]` (src.training.optimizers.grouped).
        freeze: the parameters of the network that are not trained: `body` (all but the last layer), or a
            pattern that is searched in their names. Frozen batch norms keep their statistics.
        unfreeze_at: the epoch, counted from 0, from which on they are trained, too; null for never.

    Raises:
        ConfigurationError: as `src.images.pretrained.Frozen`, or `unfreeze_at` below 1 or without `freeze`;
            mixed classes for a network with its own loss.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        network: NetworkCallable,
        augmentation: Augmentation | None = None,
        label_smoothing: float = 0.0,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_interval: Literal["epoch", "step"] = "epoch",
        parameter_groups: ParameterGroups | None = None,
        freeze: str | None = None,
        unfreeze_at: int | None = None,
    ) -> None:
        super().__init__()
        if unfreeze_at is not None and (freeze is None or unfreeze_at < 1):
            raise ConfigurationError(
                f"model.unfreeze_at: {unfreeze_at}, expected at least 1, and model.freeze to name parameters"
            )
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.lr_interval = lr_interval
        self.parameter_groups = parameter_groups
        self.epoch_outputs = EpochOutputs()
        channels, height, width = preprocessing.shape
        self.classes = preprocessing.classes
        # grey images become colour where the scaling has three channels
        channels_scaled = max(channels, len(preprocessing.center))
        self.network = network((channels_scaled, height, width), len(self.classes))
        self.frozen = Frozen(self.network, freeze, unfreeze_at) if freeze else None
        self.label_smoothing = label_smoothing
        self.brightest = preprocessing.brightest
        # not persistent: the bundle has them in preprocessing.json; both broadcast to (C, H, W)
        self.center = nn.Buffer(torch.tensor(preprocessing.center, dtype=torch.float32), persistent=False)
        self.scale = nn.Buffer(torch.tensor(preprocessing.scale, dtype=torch.float32), persistent=False)
        self.augmentation = augmentation or Augmentation()
        if hasattr(self.network, "loss") and (self.augmentation.mixup or self.augmentation.cutmix):
            raise ConfigurationError(
                f"model.augmentation: {type(self.network).__name__} has a loss of its own, which takes no "
                "mixed classes; leave mixup and cutmix out"
            )
        self.example_input_array = torch.zeros(2, channels, height, width, dtype=torch.uint8)

    def setup(self, stage: str) -> None:
        """Begin with the pretrained weights of the prepared data, if it has some, and freeze."""
        if stage != "fit":
            return
        data = getattr(self.trainer, "datamodule", None)
        weights: dict[str, Tensor] = data.pretrained() if isinstance(data, ImageData) else {}
        if weights:  # those of a checkpoint replace them later
            load_pretrained(self.network, weights)
        if self.frozen is not None:
            if self.frozen.unfreeze_at is not None and self.trainer.world_size > 1:
                raise ConfigurationError(
                    f"model.unfreeze_at: found {self.trainer.world_size} processes, expected one, "
                    "since they agree on the trained parameters once; set trainer.devices: 1"
                )
            warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")  # on purpose
            self.frozen.apply(self.network, 0)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Freeze or unfreeze as the epoch wants it, also in a training that begins in the middle of one."""
        if self.frozen is not None:
            self.frozen.apply(self.network, self.current_epoch)

    def scaled(self, images: Tensor) -> Tensor:
        """Scale images (B, C, H, W) uint8 as the preparation has learnt; grey becomes colour if that has."""
        return (images - self.center) / self.scale

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) uint8 to logits (B, K)."""
        logits: Tensor = self.network(self.scaled(images))
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch after its augmentation."""
        images, target = batch
        images = self.augmentation.changed(images, self.brightest)
        images, shares = self.augmentation.mixed(self.scaled(images), target, len(self.classes))
        outputs = self.network(images)
        self.epoch_outputs.add("train", outputs, target)
        return mean_over_processes(self.loss_of(outputs, shares), len(target))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the outputs for the metrics of the epoch."""
        images, target = batch
        self.epoch_outputs.add("validation", self(images), target)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the outputs for the metrics of the epoch."""
        images, target = batch
        self.epoch_outputs.add("test", self(images), target)

    def on_train_epoch_end(self) -> None:
        """Log the training loss and accuracy, of the outputs at each step."""
        outputs, target = self.epoch_outputs.take("train")
        accuracy = (outputs.argmax(dim=1) == target).float().mean()
        log_epoch(self, "train", {"loss": self.loss_of(outputs, target), "accuracy": accuracy})

    def on_validation_epoch_end(self) -> None:
        """Log the validation loss and metrics."""
        self._log_metrics("validation")

    def on_test_epoch_end(self) -> None:
        """Log the test loss and metrics."""
        self._log_metrics("test")

    def _log_metrics(self, stage: str) -> None:
        outputs, target = self.epoch_outputs.take(stage)
        log_epoch(self, stage, {"loss": self.loss_of(outputs, target), **self.metrics_of(outputs, target)})

    def configure_optimizers(self) -> Any:
        """The optimizer and schedule of the configuration."""
        return optimizer_and_schedule(
            self, self.optimizer, self.lr_scheduler, self.lr_interval, self.parameter_groups
        )

    def predict(self, outputs: Tensor) -> Tensor:
        """Logits (B, K) to probabilities (B, K)."""
        return outputs.softmax(dim=1)

    def trivial_outputs(self, target: Tensor) -> Tensor:
        """Logits (1, K) whose softmax is the frequency of each class in the target (B,)."""
        return target.bincount(minlength=len(self.classes)).log()[None]

    def trivial_metrics(self, train: Tensor, test: Tensor) -> dict[str, float]:
        """The metrics of `trivial_outputs`.

        Args:
            train: the training target (N,).
            test: the test target (M,).
        """
        outputs = self.trivial_outputs(train).expand(len(test), -1)
        return {name: float(value) for name, value in self.metrics_of(outputs, test).items()}

    def loss_of(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Mean cross-entropy, or the loss that the network brings; target (B,) or shares (B, K)."""
        loss = getattr(self.network, "loss", functional.cross_entropy)
        mean: Tensor = loss(outputs, target, label_smoothing=self.label_smoothing)
        return mean

    def metrics_of(self, outputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Accuracy, and precision, recall and F1 as means over the classes."""
        return classification_metrics(outputs, target)
