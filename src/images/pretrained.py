"""Pretrained weights of a network.

They come from a file of the raw data, so that `fetch` pins them and DVC tracks them; a training reads
their copy in data/prepared/<task>/, and a bundle needs neither.
"""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from src.core.errors import ConfigurationError, DataError
from src.core.weights import with_versions
from src.training.freezing import belongs, head_of

WEIGHTS = "weights.safetensors"
WRAPPERS = ("state_dict", "model")  # under which training scripts put the weights
OF_A_BUNDLE = ("class_weights", "temperature")  # beside the network
# of a bundle, of networks that several processes have trained, of modules of Lightning, of compiled ones
PREFIXES = ("network.", "module.", "model.", "_orig_mod.")
COUNTER = "num_batches_tracked"  # of batch norm; files of old networks have none, and nothing reads it
AUXILIARY = re.compile(r"(^|\.)(aux1|aux2|AuxLogits)\.")  # of googlenet and inception_v3
OLDER_LINEAR = {"1": 0, "2": 3}  # the places of linear_1 and linear_2 in the MLP of a ViT
MOST_NAMED = 3


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a file of weights without running code of it.

    Args:
        path: a file of safetensors, or a `.pt` or `.pth` file of torch with a dictionary of tensors, as
            torchvision publishes them.

    Raises:
        DataError: there is no such file, or it is another.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: there is no such file; prepare.weights names a file of the source, or of `files`"
        )
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds; with weights_only none is raised by code of the file
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(
            f"{path}: not a file of weights, or one with objects other than tensors: {reason}"
        ) from None
    for name in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    pairs = content.items() if isinstance(content, dict) else ()
    if not pairs or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in pairs):
        raise DataError(f"{path}: not a file of weights: expected a dictionary of names and tensors")
    content = {name: value for name, value in pairs if name not in OF_A_BUNDLE}
    while prefix := next((each for each in PREFIXES if all(name.startswith(each) for name in content)), ""):
        content = {name.removeprefix(prefix): value for name, value in content.items()}
    weights: dict[str, Tensor] = content
    return weights


def copy_weights(path: Path, folder: Path) -> None:
    """Write the weights of a file to weights.safetensors in a folder, as `read_weights` reads them."""
    weights = {name: value.detach().clone().contiguous() for name, value in read_weights(path).items()}
    save_file(weights, folder / WEIGHTS)


def load_pretrained(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load pretrained weights into all layers but the head, which is new.

    Args:
        network: of src.images.networks, or of one's own.
        weights: as `read_weights` returns them: the names may lack the prefix `network.`.

    Raises:
        ConfigurationError: a layer other than the head has no weights, or of another shape, or the network
            lacks one of the weights; the message has its name.
    """
    head = head_of(network)
    inner = "network." if all(name.startswith("network.") for name in network.state_dict()) else ""
    given = {inner + name: value for name, value in weights.items()}
    own = {name: value for name, value in network.state_dict().items() if not belongs(name, head)}
    given = {name if name in own else _newer(name): value for name, value in given.items()}
    given = {name: value for name, value in given.items() if not belongs(name, head)}
    given = {name: value for name, value in given.items() if name in own or not AUXILIARY.search(name)}
    problems = [
        f"{name} {'is not in the file' if name not in given else _shapes(given[name], value)}"
        for name, value in own.items()
        if (name not in given and not name.endswith(COUNTER))
        or (name in given and given[name].shape != value.shape)
    ]
    problems += [f"{name} is not in the network" for name in given if name not in own]
    if problems:
        more = f" and {len(problems) - MOST_NAMED} more" if len(problems) > MOST_NAMED else ""
        raise ConfigurationError(
            f"model.network: the weights of prepare.weights do not fit: "
            f"{'; '.join(problems[:MOST_NAMED])}{more}; choose the network that they were trained in"
        )
    network.load_state_dict(with_versions(given, network), strict=False)


def _newer(name: str) -> str:
    """The name of a weight of torchvision's DenseNets and ViTs, whose published files have older ones."""
    name = re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)
    return re.sub(r"\bmlp\.linear_([12])\.", lambda found: f"mlp.{OLDER_LINEAR[found[1]]}.", name)


def _shapes(found: Tensor, expected: Tensor) -> str:
    return f"has the shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
