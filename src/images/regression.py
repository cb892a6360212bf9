"""The LightningModule that finds a number in an image, such as an age or an area.

B batch
"""

from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional
from torchmetrics.functional import mean_absolute_error, mean_squared_error, r2_score

from src.images.model import ImageModel
from src.images.networks import NetworkCallable
from src.images.preprocessing import Preprocessing


class ImageRegressor(ImageModel):
    """A regression of images: the mean squared error of the number in units of its standard deviation.

    Args:
        preprocessing: of the prepared data.
        network: as for `ImageModel`; it maps (B, C, H, W) to (B, 1).
        arguments: those that follow in `ImageModel`.
        settings: those of `ImageModel` except what is for classes: label_smoothing, class_weights, and mixup
            and cutmix of the augmentation.

    Raises:
        ConfigurationError: as `ImageModel`, or a setting that is for classes.
    """

    task: ClassVar[str] = "regression"

    def __init__(
        self, preprocessing: Preprocessing, network: NetworkCallable, *arguments: Any, **settings: Any
    ) -> None:
        super().__init__(preprocessing, network, *arguments, **settings)
        assert preprocessing.quantity is not None
        self.quantity = preprocessing.quantity
        self.refuse_settings("a regression", "label_smoothing")

    def loss_of(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Mean squared error of outputs (B, 1) and numbers (B,)."""
        return functional.mse_loss(outputs[:, 0], self._standardized(target))

    def predict(self, outputs: Tensor) -> Tensor:
        """Outputs (B, 1) to numbers (B,)."""
        return outputs[:, 0] * self.quantity.standard_deviation + self.quantity.mean

    def mean_of(self, outputs: Tensor) -> Tensor:
        """The mean (B, 1) of some outputs (A, B, 1)."""
        return outputs.mean(dim=0)

    def trivial_outputs(self, target: Tensor) -> Tensor:
        """The output (1, 1) for the mean of the target (B,)."""
        return self._standardized(target.double().mean()).float().reshape(1, 1)

    def training_metrics_of(self, outputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The root mean squared error."""
        return {"rmse": mean_squared_error(self.predict(outputs), target, squared=False)}

    def metrics_of(self, outputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        """RMSE, MAE and R2, in the unit of the target."""
        numbers = self.predict(outputs)
        metrics = {
            "rmse": mean_squared_error(numbers, target, squared=False),
            "mae": mean_absolute_error(numbers, target),
        }
        if len(target) > 1:
            metrics["r2"] = r2_score(numbers.double(), target.double()).float()
        return metrics

    def _standardized(self, target: Tensor) -> Tensor:
        return (target - self.quantity.mean) / self.quantity.standard_deviation
