"""Weights of a network by name."""

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn


def with_versions(weights: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Weights with the versions of a module's layers, without which MNASNet refuses to load them.

    Args:
        weights: of the module, by name.
        module: into which they are to be loaded.
    """
    found = OrderedDict(weights)
    versions = getattr(module.state_dict(), "_metadata", None)  # a module may return another dictionary
    if versions is not None:
        found._metadata = versions  # type: ignore[attr-defined]
    return found
