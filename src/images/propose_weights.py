"""Proposal of a network whose weights are in a file beside the pictures."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from src.core.documents import parsed_json
from src.core.errors import ConfigurationError, DataError
from src.images.preprocessing import IMAGENET
from src.preparation.proposals import listed

WEIGHTS = (".safetensors", ".pt", ".pth")
OLDER = "pytorch_model.bin"  # of repositories of the Hugging Face Hub
SIZE = (224, 224)  # of networks whose library names none
PAGE = "docs/data.md, Pretrained networks"


class Pretrained(NamedTuple):
    """A file of weights and what they were trained with.

    Args:
        file: its name.
        library: torchvision or timm.
        network: a name of this library.
        size: the height and width of the images.
        colours: mean and standard deviation of red, green and blue with values from 0 to 1: `mean` and `std`.
    """

    file: str
    library: str
    network: str
    size: tuple[int, int]
    colours: dict[str, list[float]]

    @property
    def class_path(self) -> str:
        """The class in src.images.networks that takes the name of the network."""
        return f"src.images.networks.{self.library.capitalize()}Network"

    @property
    def scale(self) -> str | dict[str, list[float]]:
        """The value of `prepare.scale`."""
        return "imagenet" if self.colours == IMAGENET else self.colours


def find_pretrained(files: list[Path], are_pictures: bool) -> tuple[Pretrained | None, list[str]]:
    """Find the one file of weights of a network of torchvision or timm.

    Its network is that of a file config.json beside it, as timm's models have it, or the one with whose name
    its own name begins, as resnet18-f37072fd.pth or convnext_atto.d2_in1k.safetensors.

    Args:
        files: those of the folder of the images.
        are_pictures: whether the images are picture files, which may be brought to any size.

    Returns:
        The weights, or None, and a finding for files of weights.
    """
    paths = [path for path in files if path.suffix.lower() in WEIGHTS]
    paths = paths or [path for path in files if path.name == OLDER]
    if not paths:
        return None, []
    found = f"pretrained weights: {listed([path.name for path in paths])}"
    if not are_pictures or len(paths) > 1:
        why = "several files" if are_pictures else "they are for picture files"
        return None, [f"{found}: not used: {why}; {PAGE}"]
    problem = ""
    for pretrained in _candidates(paths[0]):
        name = f"{pretrained.library}'s {pretrained.network}"
        try:
            _require_fitting(pretrained, paths[0])
        except (ConfigurationError, DataError) as error:
            problem = problem or f"{found} cannot be read into {name}: {error}"
        else:
            return pretrained, [f"{found} of {name}, of which the last layer is trained; {PAGE}"]
    unknown = "neither the name nor a config.json names a network of torchvision or timm"
    return None, [problem or f"{found}: not used: {unknown}; {PAGE}"]


def _require_fitting(pretrained: Pretrained, path: Path) -> None:
    if pretrained.size[0] != pretrained.size[1]:
        raise ConfigurationError("they want images of {} x {}, which are not square".format(*pretrained.size))
    from src.images import networks  # torch takes two seconds
    from src.images.pretrained import load_pretrained, read_weights

    weights = read_weights(path)
    build: Callable[..., Any] = getattr(networks, pretrained.class_path.rpartition(".")[2])
    load_pretrained(build((3, *pretrained.size), 2, pretrained.network), weights)


def _candidates(path: Path) -> Iterator[Pretrained]:
    """What a file may be the weights of, the likeliest first."""
    beside = path.with_name("config.json")
    if beside.is_file():
        try:
            content = parsed_json(beside.read_text(encoding="utf-8"))
            name, published = str(content["architecture"]), content["pretrained_cfg"]
            _, height, width = map(int, published["input_size"])
            colours = {key: list(map(float, published[key])) for key in ("mean", "std")}
        except (ValueError, TypeError, LookupError):
            pass  # of another kind of model
        else:
            yield Pretrained(path.name, "timm", name, (height, width), colours)
    named = [_of_torchvision(path), _of_timm(path)]
    if "." in path.stem:  # a tag, as names of timm's weights have
        named.reverse()
    yield from filter(None, named)


def _of_torchvision(path: Path) -> Pretrained | None:
    from torchvision import models

    names = models.list_models(module=models)
    published = [(name, weights) for name in names for weights in models.get_model_weights(name)]
    same = [pair for pair in published if pair[1].url.endswith(f"/{path.name}")]
    if not same:
        name = _longest_beginning(path, names)
        same = [pair for pair in published if pair[0] == name]
        if name is not None and not same:
            return Pretrained(path.name, "torchvision", name, SIZE, IMAGENET)
    ways = [(name, weights.transforms()) for name, weights in same]
    if not ways:
        return None
    name, way = min(ways, key=lambda pair: pair[1].crop_size)
    colours = {"mean": list(way.mean), "std": list(way.std)}
    return Pretrained(path.name, "torchvision", name, (way.crop_size[0], way.crop_size[0]), colours)


def _of_timm(path: Path) -> Pretrained | None:
    try:
        import timm
    except ModuleNotFoundError:  # an extra
        return None
    name = _longest_beginning(path, timm.list_models())
    if name is None:
        return None
    known = path.stem in timm.list_pretrained()
    published = timm.get_pretrained_cfg(path.stem if known else name)
    if published is None:
        return Pretrained(path.name, "timm", name, SIZE, IMAGENET)
    colours = {"mean": list(published.mean), "std": list(published.std)}
    return Pretrained(path.name, "timm", name, published.input_size[1:], colours)


def _longest_beginning(path: Path, names: list[str]) -> str | None:
    """The longest of some names with which that of a file begins."""
    stem = re.sub("[-.]", "_", path.stem.lower())
    return max((name for name in names if f"{stem}_".startswith(f"{name}_")), key=len, default=None)
