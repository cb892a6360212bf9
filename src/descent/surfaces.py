"""The surfaces to minimise.

B batch
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Surface(NamedTuple):
    """A function of two variables.

    Args:
        height: points (B, 2) to heights (B,).
        minimum: the global minimum; None if the surface has none.
        window: the largest |x1| and |x2| shown in plots.
    """

    height: Callable[[Tensor], Tensor]
    minimum: tuple[float, float] | None
    window: tuple[float, float]


def bowl(points: Tensor) -> Tensor:
    """0.05 x1^2 + x2^2, minimum 0 at (0, 0); the curvature along x2 is 20 times that along x1 (course)."""
    x1, x2 = points.unbind(dim=-1)
    return 0.05 * x1**2 + x2**2


def rosenbrock(points: Tensor) -> Tensor:
    """(1 - x1)^2 + 100 (x2 - x1^2)^2, minimum 0 at (1, 1): a curved valley (Rosenbrock 1960)."""
    x1, x2 = points.unbind(dim=-1)
    return (1 - x1) ** 2 + 100 * (x2 - x1**2) ** 2


def saddle(points: Tensor) -> Tensor:
    """x1^2 - x2^2: no minimum; the gradient is 0 at the origin."""
    x1, x2 = points.unbind(dim=-1)
    return x1**2 - x2**2


def beale(points: Tensor) -> Tensor:
    """A flat valley between steep corners, minimum 0 at (3, 0.5) (Beale 1958).

    (1.5 - x1 + x1 x2)^2 + (2.25 - x1 + x1 x2^2)^2 + (2.625 - x1 + x1 x2^3)^2
    """
    x1, x2 = points.unbind(dim=-1)
    squares = [(1.5 - x1 + x1 * x2) ** 2, (2.25 - x1 + x1 * x2**2) ** 2, (2.625 - x1 + x1 * x2**3) ** 2]
    return torch.stack(squares).sum(dim=0)


SURFACES = {
    "bowl": Surface(bowl, (0.0, 0.0), (7.0, 2.0)),
    "rosenbrock": Surface(rosenbrock, (1.0, 1.0), (2.0, 2.0)),
    "saddle": Surface(saddle, None, (2.0, 2.0)),
    "beale": Surface(beale, (3.0, 0.5), (4.5, 4.5)),
}
