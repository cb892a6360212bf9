"""A trained model in a form that can be exported, and a way to check the export."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Exportable:
    """A module that takes raw-like tensors, with its description.

    Args:
        kind: names the templates of the example and of the model card.
        network: the name to display.
        module: in evaluation mode; from inputs by name to a tensor or a tuple of tensors.
        inputs: two rows of each input, to trace the module with.
        axes: for each input the axes of variable size, with names; axes of one name have the same size.
        outputs: the names of the returned tensors.
        sample: from a generator and a number of rows to random raw-like inputs and the predictions of the
            bundle for them, computed without `module`.
        description: the content of inputs.json: how to make the inputs, and an `example`.
        vocabulary: the content of vocabulary.json; for texts only.
        jumps: the module has a step, where rounding may change single predictions.
        largest: the largest size of the axes of a name; those that are not named have any.
    """

    kind: str
    network: str
    module: nn.Module
    inputs: dict[str, Tensor]
    axes: dict[str, dict[int, str]]
    outputs: tuple[str, ...]
    sample: Callable[[np.random.Generator, int], tuple[Arrays, Arrays]]
    description: dict[str, Any]
    vocabulary: list[str] | None = None
    jumps: bool = False
    largest: dict[str, int] = field(default_factory=dict)
