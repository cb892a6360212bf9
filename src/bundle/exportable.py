"""What a room hands over to be exported: a module that takes raw-like tensors, and how to check it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Exportable:
    """A trained model in a form that leaves the project.

    Args:
        kind: names the templates of its example and its model card.
        network: its name, for people.
        module: in evaluation mode; from inputs by name to a tensor or a tuple of tensors.
        inputs: two rows of each input, to trace the module with.
        axes: of each input, the axes whose size is free, with their names; the same name is the same size.
        outputs: the names of what the module returns.
        sample: from a generator and a number of rows to random raw-like inputs and the bundle's own answers
            to them, made without `module`.
        description: the content of inputs.json: what a caller needs to make the inputs, and an `example`.
        vocabulary: the content of vocabulary.json; of texts only.
        jumps: rounding decides at a step, so that single answers may differ.
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
