"""The LightningModule that classifies images.

B batch, C channels, H height, W width, K classes
"""

import copy
import math
from typing import ClassVar, Literal

import torch
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional

from src.core.errors import ConfigurationError
from src.images.augmentation import Augmentation
from src.images.data import ImageData, images_at_once
from src.images.networks import NetworkCallable
from src.images.preprocessing import MODELS, Preprocessing
from src.images.pretrained import load_pretrained
from src.training.calibration import fit_temperature, outputs_of
from src.training.distributed import mean_over_processes
from src.training.freezing import belongs, frozen_of, head_of
from src.training.networks import require_outputs
from src.training.optimizers import ParameterGroups
from src.training.supervised import Batch, Supervised

MANY_CLASSES = 20


class ImageModel(Supervised):
    """A classifier of images. Batches are uint8 and scaled here, on the device.

    Args:
        preprocessing: of the prepared data; it has the shape, the classes and the scaling.
        network: LeNet, ConvNet, ResidualNet, MLP or TorchvisionNetwork of src.images.networks, or a module of
            your own that is built from (C, H, W) and K; it maps (B, C, H, W) to logits (B, K). If it has a
            method `loss(logits, target, label_smoothing)`, that replaces the cross-entropy.
        augmentation: of training images; null for none.
        label_smoothing: of the cross-entropy.
        flip_averaging: whether an answer is the mean of those for the image and for its mirror image, in
            validation, test, prediction and export; it takes twice the time there and none in training.
        shift_averaging: above 0, an answer is the mean of those for the image and for four copies, which are
            moved diagonally by so many pixels and black at the edge; it takes five times the time there.
        class_weights: factors of the losses of the images of each class, `{cat: 5}`, where a class that is
            not named has 1; `auto` counts all classes alike: images / (classes * images of the class).
        calibrate: whether logits are divided by a temperature, so that probabilities fit. It is learnt after
            the training, by the weights that are kept, from the validation images, and part of the bundle.
        optimizer: one of torch.optim.
        lr_scheduler: one of torch.optim.lr_scheduler.
        lr_interval: "epoch" or "step", when the schedule advances.
        parameter_groups: settings of the optimizer for parameters by name, such as
            `[{pattern: 'bias|Norm', weight_decay: 0}]` (src.training.optimizers.grouped).
        freeze: the parameters of the network that are not trained: `body` (all but the last layer), or a
            pattern that is searched in their names. Frozen batch norms keep their statistics.
        unfreeze_at: the epoch, counted from 0, from which on they are trained, too; null for never.

    Raises:
        ConfigurationError: as `src.training.freezing.frozen_of`;
            mixed classes or weights for a network with its own loss; weights of an unknown class;
            `calibrate` with data that are not those of `ImageData`.
    """

    task: ClassVar[str] = "classification"
    class_weights: Tensor | None
    temperature: Tensor | None

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
        class_weights: Literal["auto"] | dict[str, NonNegativeFloat] | None = None,
        flip_averaging: bool = False,
        shift_averaging: NonNegativeInt = 0,
        calibrate: bool = False,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, lr_interval, parameter_groups)
        if preprocessing.task != self.task:
            other = MODELS[preprocessing.task]
            raise ConfigurationError(
                f"model: {type(self).__name__} is for {self.task}, found data of {preprocessing.task}; use "
                f"src.images.{other}"
            )
        channels, height, width = preprocessing.shape
        self.classes = preprocessing.classes
        # grey images become colour where the scaling has three channels
        channels_scaled = max(channels, len(preprocessing.center))
        self.network = network((channels_scaled, height, width), len(self.classes) or 1)
        self.frozen = frozen_of(self.network, freeze, unfreeze_at)
        self.label_smoothing = label_smoothing
        self.flip_averaging = flip_averaging
        if shift_averaging >= min(height, width):
            raise ConfigurationError(
                f"model.shift_averaging: {shift_averaging}, expected less than the sides of the images, "
                f"{height} x {width}"
            )
        self.shift_averaging = shift_averaging
        self.brightest = preprocessing.brightest
        # not persistent: the bundle has them in preprocessing.json; both broadcast to (C, H, W)
        self.center = nn.Buffer(torch.tensor(preprocessing.center, dtype=torch.float32), persistent=False)
        self.scale = nn.Buffer(torch.tensor(preprocessing.scale, dtype=torch.float32), persistent=False)
        self.augmentation = augmentation or Augmentation()
        mixes = self.augmentation.mixup or self.augmentation.cutmix
        if hasattr(self.network, "loss") and (mixes or class_weights is not None):
            raise ConfigurationError(
                f"model: {type(self.network).__name__} has a loss of its own, which takes no mixed classes "
                "and no weights; leave mixup, cutmix and class_weights out"
            )
        self.automatic_weights = class_weights == "auto"
        self.register_buffer("class_weights", self._weights(class_weights))
        self.register_buffer("temperature", torch.tensor(1.0) if calibrate else None)
        self.example_input_array = torch.zeros(2, channels, height, width, dtype=torch.uint8)

    def _weights(self, class_weights: str | dict[str, float] | None) -> Tensor | None:
        """The weight of each class (K,), 1 where it is not known yet; None without weights."""
        if class_weights is None:
            return None
        given = class_weights if isinstance(class_weights, dict) else {}
        given = {str(name): weight for name, weight in given.items()}  # YAML reads digits as numbers
        for name in given:
            if name not in self.classes:
                raise ConfigurationError(
                    f"model.class_weights: found {name}, expected one of {', '.join(self.classes)}"
                )
        return torch.tensor([float(given.get(name, 1)) for name in self.classes])

    def refuse_settings(self, task: str, *more: str) -> None:
        """Raise a ConfigurationError for settings that are for one class an image, and for `more`."""
        given = {
            "class_weights": self.class_weights is not None,
            "calibrate": self.temperature is not None,
            "augmentation.mixup": self.augmentation.mixup,
            "augmentation.cutmix": self.augmentation.cutmix,
        }
        for name in (*more, *given):
            if given.get(name, getattr(self, name, None)):
                raise ConfigurationError(f"model.{name}: it is for classes, found {task}; leave it out")

    def setup(self, stage: str) -> None:
        """Weigh the classes, begin with the pretrained weights of the prepared data, if any, freeze."""
        if stage != "fit":
            return
        assert isinstance(self.example_input_array, Tensor)
        require_outputs(
            self.network, self.scaled(self.example_input_array.to(self.device)), len(self.classes) or 1
        )
        data = getattr(self.trainer, "datamodule", None)
        if self.temperature is not None and not isinstance(data, ImageData):
            raise ConfigurationError(
                f"model.calibrate: it needs the validation images of src.images.data.ImageData, found "
                f"{type(data).__name__}; leave it out"
            )
        if self.automatic_weights and self.class_weights is not None and isinstance(data, ImageData):
            counts = data.targets("train").bincount(minlength=len(self.classes))
            self.class_weights.copy_(counts.sum() / (len(counts) * counts.double()))
        weights: dict[str, Tensor] = data.pretrained() if isinstance(data, ImageData) else {}
        if weights:  # those of a checkpoint replace them later
            load_pretrained(self.network, weights)
        if self.frozen is not None:
            self.frozen.begin(self.network, self.trainer)

    def on_fit_end(self) -> None:
        """Learn the temperature from the validation images, with the weights that are kept."""
        if self.temperature is None:
            return
        images, target = self.trainer.datamodule.tensors("validation")  # type: ignore[attr-defined]
        logits = outputs_of(self, self, [images], images_at_once(*images.shape[2:]))
        self.temperature.fill_(fit_temperature(logits, target))

    @torch.no_grad()
    def features_of(self, images: Tensor) -> Tensor:
        """The inputs of the last layer for images, which a training of that layer alone needs once.

        Args:
            images: (N, C, H, W) uint8, or a `RemoteArray` of them.

        Returns:
            Floating-point features (N, ...); or the images, if the training changes more than the last layer
            or the images, or if the features depend on anything but an image, as with dropout.
        """
        changed = self.augmentation != Augmentation() or self.flip_averaging or self.shift_averaging
        if self.frozen is None or self.frozen.unfreeze_at is not None or changed:
            return images
        network = copy.deepcopy(self.network)  # whose mode may change
        name = head_of(network)
        if any(value.requires_grad and not belongs(each, name) for each, value in network.named_parameters()):
            return images
        head, found = network.get_submodule(name), list[Tensor]()
        size = images_at_once(*images.shape[2:])
        with self.trainer.precision_plugin.forward_context():
            in_training = network.forward(self.scaled(images[:size].to(self.device)))
            network.eval()
            head.register_forward_pre_hook(lambda layer, inputs: found.append(inputs[0]))
            for start in range(0, len(images), size):
                part = images[start : start + size].to(self.device)
                outputs = network.forward(self.scaled(part))
                if len(found) == 1 and not (
                    torch.equal(outputs, in_training) and torch.equal(outputs, head.forward(found[0]))
                ):
                    return images
        return torch.cat(found)

    def scaled(self, images: Tensor) -> Tensor:
        """Scale images (B, C, H, W) uint8 as the preparation has learnt; grey becomes colour if that has."""
        return (images - self.center) / self.scale

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) uint8, or what `features_of` has made of them, to logits (B, K)."""
        if images.is_floating_point():
            return self._head_outputs(images)
        outputs: list[Tensor] = [self.network(self.scaled(view)) for view in self._views(images)]
        return outputs[0] if len(outputs) == 1 else self.mean_of(torch.stack(outputs))

    def _views(self, images: Tensor) -> list[Tensor]:
        """The images (B, C, H, W) and the copies of them whose answers are averaged."""
        views = [images]
        if by := self.shift_averaging:
            height, width = images.shape[2:]
            padded = functional.pad(images, (by, by, by, by))
            corners = [(top, left) for top in (0, 2 * by) for left in (0, 2 * by)]
            views += [padded[:, :, top : top + height, left : left + width] for top, left in corners]
        if self.flip_averaging:
            views += [view.flip(3) for view in views]
        return views

    def _head_outputs(self, features: Tensor) -> Tensor:
        logits: Tensor = self.network.get_submodule(head_of(self.network))(features)
        return logits

    def mean_of(self, outputs: Tensor) -> Tensor:
        """The logits (B, K) whose softmax is the mean of those of some logits (A, B, K)."""
        precise = torch.promote_types(outputs.dtype, torch.float32)
        return outputs.log_softmax(dim=2, dtype=precise).logsumexp(dim=0) - math.log(len(outputs))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch after its augmentation."""
        images, target = batch
        if images.is_floating_point():
            outputs = self._head_outputs(images)
            self.epoch_outputs.add("train", outputs, target)
            return mean_over_processes(self.loss_of(outputs, target), len(target))
        images = self.augmentation.changed(images, self.brightest)
        images, shares = self.augmentation.mixed(self.scaled(images), target, len(self.classes))
        outputs = self.network(images)
        self.epoch_outputs.add("train", outputs, target)
        return mean_over_processes(self.loss_of(outputs, shares), len(target))

    def predict(self, outputs: Tensor) -> Tensor:
        """Logits (B, K) to probabilities (B, K), after the division by the temperature, if there is one."""
        return super().predict(outputs if self.temperature is None else outputs / self.temperature)

    def loss_of(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Mean cross-entropy, or the loss that the network brings; target (B,) or shares (B, K)."""
        if self.class_weights is not None:
            by_class = self.class_weights
            if target.ndim == 2:  # the loss of each class, weighted, and then the mean by the shares
                precise = torch.promote_types(outputs.dtype, torch.float32)
                unlikely = -outputs.log_softmax(dim=1, dtype=precise)
                even = unlikely.mean(dim=1, keepdim=True)
                each = unlikely + self.label_smoothing * (even - unlikely)
                return (target * by_class * each).sum(dim=1).mean()
            losses = functional.cross_entropy(
                outputs, target, reduction="none", label_smoothing=self.label_smoothing
            )
            return (losses * by_class[target]).mean()
        loss = getattr(self.network, "loss", functional.cross_entropy)
        mean: Tensor = loss(outputs, target, label_smoothing=self.label_smoothing)
        return mean

    def metrics_of(self, outputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Accuracy; precision, recall and F1 as means over the classes; top-5 accuracy of many classes."""
        metrics = super().metrics_of(outputs, target)
        if len(self.classes) >= MANY_CLASSES:
            found = outputs.topk(5, dim=1).indices == target[:, None]
            metrics["top5_accuracy"] = found.any(dim=1).float().mean()
        return metrics
