"""Export of a bundle: a module from uint8 pixels to class probabilities.

B batch, C channels, H height, W width, K classes
"""

from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor, nn

from src.bundle.bundle import Bundle
from src.bundle.exportable import Arrays, Exportable
from src.images.model import ImageModel
from src.images.pictures import Decoding
from src.images.preprocessing import Preprocessing


class Classifier(nn.Module):
    """The scaling, the network, and the softmax or what else makes answers of its outputs.

    Args:
        model: in evaluation mode.
    """

    def __init__(self, model: ImageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) uint8 to probabilities (B, K), or the numbers (B,) of a regression."""
        return self.model.predict(self.model(images))


def exportable(bundle: Bundle) -> Exportable:
    """The trained model of a bundle with its scaling."""
    model = bundle.model_of(ImageModel)
    preprocessing: Preprocessing = bundle.preprocessing
    shape, brightest = preprocessing.shape, preprocessing.brightest
    output = "probabilities" if preprocessing.quantity is None else "numbers"

    def sample(generator: np.random.Generator, rows: int) -> tuple[Arrays, Arrays]:
        images = generator.integers(brightest, size=(rows, *shape), dtype=np.uint8, endpoint=True)
        with torch.inference_mode():
            answers = model.predict(model(torch.from_numpy(images)))
        return {"images": images}, {output: answers.numpy()}

    return Exportable(
        kind="images",
        network=type(model.network).__name__,
        module=Classifier(model).eval(),
        inputs={"images": torch.zeros(2, *shape, dtype=torch.uint8)},
        axes={"images": {0: "batch"}},
        outputs=(output,),
        sample=sample,
        description={
            "shape": list(shape),
            "brightest": brightest,
            **asdict(preprocessing.decoding or Decoding()),
            "task": preprocessing.task,
            "classes": preprocessing.classes,
            "quantity": preprocessing.quantity.name if preprocessing.quantity else None,
            "example": {"brightness": brightest // 2},
        },
    )
