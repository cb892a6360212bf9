"""Bundle -> a module from pixels as bytes to class probabilities.

B batch, C channels, H height, W width, K classes
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from src.images.model import ImageModel
from src.images.preprocessing import shape_of
from src.shared.bundle import load_model
from src.shared.exportable import Arrays, Exportable
from src.shared.folders import read_preprocessing


class Classifier(nn.Module):
    """Scaling, the network and the softmax.

    Args:
        model: in evaluation mode.
    """

    def __init__(self, model: ImageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Bytes (B, C, H, W) to probabilities (B, K)."""
        return self.model.predict(self.model(images))


def exportable(bundle: Path) -> Exportable:
    """The trained model of a bundle with its scaling.

    Args:
        bundle: models/<task>.
    """
    model = load_model(bundle, ImageModel)
    preprocessing = read_preprocessing(bundle)
    shape, brightest = shape_of(preprocessing), preprocessing["brightest"]

    def sample(generator: np.random.Generator, rows: int) -> tuple[Arrays, Arrays]:
        images = generator.integers(brightest, size=(rows, *shape), dtype=np.uint8, endpoint=True)
        with torch.inference_mode():
            answers = model.predict(model(torch.from_numpy(images)))
        return {"images": images}, {"probabilities": answers.numpy()}

    return Exportable(
        kind="images",
        network=type(model.network).__name__,
        module=Classifier(model).eval(),
        inputs={"images": torch.zeros(2, *shape, dtype=torch.uint8)},
        axes={"images": {0: "batch"}},
        outputs=("probabilities",),
        sample=sample,
        description={
            "shape": list(shape),
            "brightest": brightest,
            "classes": preprocessing["classes"],
            "example": {"brightness": brightest // 2},
        },
    )
