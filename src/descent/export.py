"""Export of a bundle: the surface as a module from points to heights.

B batch
"""

import numpy as np
import torch
from torch import Tensor, nn

from src.bundle.bundle import Bundle
from src.bundle.exportable import Arrays, Exportable
from src.descent.model import Descent
from src.descent.points import COLUMNS
from src.descent.surfaces import SURFACES


class Heights(nn.Module):
    """The surface that was minimised, without the point that was found.

    Args:
        surface: a name of `SURFACES`.
    """

    def __init__(self, surface: str) -> None:
        super().__init__()
        self.surface = surface

    def forward(self, points: Tensor) -> Tensor:
        """Points (B, 2) float64 to heights (B,)."""
        return SURFACES[self.surface].height(points)


def exportable(bundle: Bundle) -> Exportable:
    """The surface of a bundle, with the point that was found as the example."""
    model = bundle.model_of(Descent)
    window = np.array(SURFACES[model.surface].window)

    def sample(generator: np.random.Generator, rows: int) -> tuple[Arrays, Arrays]:
        points = generator.uniform(-window, window, size=(rows, 2))
        with torch.inference_mode():
            heights = model(torch.from_numpy(points))
        return {"points": points}, {"heights": heights.numpy()}

    return Exportable(
        kind="descent",
        network=model.surface,
        module=Heights(model.surface).eval(),
        inputs={"points": torch.zeros(2, 2, dtype=torch.float64)},
        axes={"points": {0: "batch"}},
        outputs=("heights",),
        sample=sample,
        description={
            "surface": model.surface,
            "columns": list(COLUMNS),
            "example": model.x.detach().tolist(),
        },
    )
