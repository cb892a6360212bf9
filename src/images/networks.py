"""Networks for images.

B batch, C channels, H height, W width, K classes
"""

import difflib
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Literal

import torch
import torchvision
from torch import Tensor, nn

from src.core.errors import ConfigurationError
from src.training import networks

Shape = tuple[int, int, int]
NetworkCallable = Callable[[Shape, int], nn.Module]

FEWEST_CHANNELS = 8
AUXILIARY = ("googlenet", "inception_v3")
POOLINGS: dict[str, type[nn.Module]] = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}


class LeNet(nn.Sequential):
    """LeNet-5 (LeCun et al. 1998, Gradient-based learning applied to document recognition) as in the course.

    Args:
        shape: (C, H, W).
        classes: K.
        activation: after both convolutions and the first two linear layers.
        pooling: after both convolutions.
        initialisation: of the weights: `xavier` (uniform; Glorot and Bengio 2010, equation 16) or `default`
            (torch's).
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        activation: Literal["sigmoid", "relu", "tanh"] = "sigmoid",
        pooling: Literal["average", "max"] = "average",
        initialisation: Literal["xavier", "default"] = "xavier",
    ) -> None:
        channels, height, width = shape
        act, pool = networks.ACTIVATIONS[activation], POOLINGS[pooling]
        sides = [(side // 2 - 4) // 2 for side in (height, width)]
        _require_size(min(sides), shape, 12)
        super().__init__(
            nn.Conv2d(channels, 6, 5, padding=2),
            act(),
            pool(2),
            nn.Conv2d(6, 16, 5),
            act(),
            pool(2),
            nn.Flatten(),
            nn.Linear(16 * prod(sides), 120),
            act(),
            nn.Linear(120, 84),
            act(),
            nn.Linear(84, classes),
        )
        if initialisation == "xavier":
            for layer in self:
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)
        self.to(memory_format=torch.channels_last)


class ConvNet(nn.Sequential):
    """3 x 3 convolutions with batch norm (Ioffe and Szegedy 2015) and ReLU, for small images.

    Each stage but the first begins with a pooling, which halves the sides, and has twice the channels of the
    one before. The first pooling follows the first convolution, so the others compute on a quarter of the
    pixels or less.

    Args:
        shape: (C, H, W).
        classes: K.
        width: channels of the first stage.
        dropout: probability of zeroing an input of the last layer.
        stages: convolutions of each stage.

    Raises:
        ConfigurationError: a stage without a convolution, or images that are too small for the poolings.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        width: int = 32,
        dropout: float = 0.0,
        stages: Sequence[int] = (1, 2, 2),
    ) -> None:
        if not stages or min(stages) < 1:
            raise ConfigurationError(
                f"model.network.stages: {list(stages)}, expected at least one convolution in each stage"
            )
        shrunk = 2 ** (len(stages) - 1)
        _require_size(min(shape[1:]) // shrunk, shape, shrunk)
        layers: list[nn.Module] = []
        channels = shape[0]
        for stage, convolutions in enumerate(stages):
            if stage:
                layers.append(nn.MaxPool2d(2))
            for _ in range(convolutions):
                layers += _convolution(channels, width * 2**stage)
                channels = width * 2**stage
        # of the whole image; AdaptiveMaxPool2d's gradient is not deterministic on a GPU
        pool = nn.MaxPool2d((shape[1] // shrunk, shape[2] // shrunk))
        layers += [pool, nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels, classes)]
        super().__init__(*layers)
        self.to(memory_format=torch.channels_last)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, whose output is added to their input (He et al. 2016, section 3).

    Args:
        channels: of the input.
        size: channels of the output.
        stride: of the first convolution; where the shape changes, a 1 x 1 convolution adapts the input.
    """

    def __init__(self, channels: int, size: int, stride: int = 1) -> None:
        super().__init__()
        self.change = nn.Sequential(*_convolution(channels, size, stride), *_convolution(size, size)[:-1])
        self.shortcut: nn.Module = nn.Identity()
        if channels != size or stride != 1:
            adapted = nn.Conv2d(channels, size, 1, stride, bias=False)
            self.shortcut = nn.Sequential(adapted, nn.BatchNorm2d(size))

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to (B, size, H / stride, W / stride)."""
        output: Tensor = self.shortcut(input) + self.change(input)
        return output.relu()


class ResidualNet(nn.Sequential):
    """A residual network for small images (He et al. 2016, section 4.2), for higher scores than ConvNet.

    A convolution at full size, then stages of residual blocks, each but the first at half the size of the one
    before.

    Args:
        shape: (C, H, W).
        classes: K.
        widths: channels of each stage, at least 8; [16, 32, 64] in the paper.
        blocks: of each stage.
        dropout: probability of zeroing an input of the last layer.

    Raises:
        ConfigurationError: fewer than 8 channels, with which oneDNN's strided convolutions for AVX2 end the
            process.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        widths: Sequence[int] = (16, 32, 64),
        blocks: int = 2,
        dropout: float = 0.0,
    ) -> None:
        if not widths or min(widths) < FEWEST_CHANNELS:
            raise ConfigurationError(
                f"model.network.widths: {list(widths)}, expected at least {FEWEST_CHANNELS} channels in each "
                "stage"
            )
        layers = _convolution(shape[0], widths[0])
        channels = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                layers.append(ResidualBlock(channels, width, 2 if stage and not block else 1))
                channels = width
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels, classes)]
        super().__init__(*layers)
        self.to(memory_format=torch.channels_last)


class PublishedNetwork(nn.Module):
    """A network of colour images as a library has it; grey images are shown in colour.

    Args:
        network: (B, 3, H, W) to logits (B, K).
        name: of the network.
        shape: (C, H, W) of the images.

    Raises:
        ConfigurationError: the network cannot take images of this size.
    """

    def __init__(self, network: nn.Module, name: str, shape: Shape) -> None:
        super().__init__()
        self.network = network
        try:
            with torch.inference_mode():
                self.network.eval()(torch.zeros(1, 3, *shape[1:]))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ConfigurationError(_cannot_take(name, shape, error)) from None
        self.network.train()

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to logits (B, K)."""
        logits: Tensor = self.network(input.expand(-1, 3, -1, -1))
        return logits


class TorchvisionNetwork(PublishedNetwork):
    """A classification network of torchvision; its weights are random, or those of `prepare.weights`.

    Args:
        shape: (C, H, W); the channel of a grey image is repeated three times.
        classes: K.
        name: one of torchvision.models.list_models(), such as resnet18. googlenet and inception_v3 have no
            auxiliary classifiers, and inputs as `prepare.scale: imagenet` gives them.

    Raises:
        ConfigurationError: torchvision has no such network, or the network cannot take images of this size.
    """

    def __init__(self, shape: Shape, classes: int, name: str) -> None:
        known = torchvision.models.list_models(module=torchvision.models)
        if name not in known:
            raise ConfigurationError(f"model.network.name: {name}, expected one of {', '.join(known)}")
        # without the auxiliary classifiers, for which a training step would need a loss of its own, and with
        # the range of inputs that their published weights were trained in
        options = {"aux_logits": False, "transform_input": True, "init_weights": True}
        options = options if name in AUXILIARY else {}
        network = torchvision.models.get_model(name, weights=None, num_classes=classes, **options)
        super().__init__(network, name, shape)


class TimmNetwork(PublishedNetwork):
    """A classification network of timm; its weights are random, or those of `prepare.weights`.

    Args:
        shape: (C, H, W); the channel of a grey image is repeated three times. A network for one size of
            images is built for this one.
        classes: K.
        name: one of timm.list_models(), such as convnext_atto; the tag of its weights may stand behind it, as
            in convnext_atto.d2_in1k.

    Raises:
        ConfigurationError: timm is not installed or has no such network, or the network cannot take images of
            this size.
    """

    def __init__(self, shape: Shape, classes: int, name: str) -> None:
        try:
            import timm  # an extra
        except ModuleNotFoundError:
            raise ConfigurationError(
                "model.network: the package timm is not installed; run: make setup EXTRAS=timm"
            ) from None

        architecture = name.split(".")[0]
        if not timm.is_model(architecture):
            near = difflib.get_close_matches(architecture, timm.list_models(), n=5)
            raise ConfigurationError(
                f"model.network.name: {name}, expected one of timm.list_models()"
                + (f", such as {', '.join(near)}" if near else "")
            )
        published = timm.get_pretrained_cfg(architecture)
        options: dict[str, Any] = {"img_size": shape[1:]} if published and published.fixed_input_size else {}
        try:
            network = timm.create_model(architecture, num_classes=classes, **options)
        except (ValueError, AssertionError) as error:
            raise ConfigurationError(_cannot_take(name, shape, error)) from None
        super().__init__(network, name, shape)


class MLP(networks.MLP):
    """The multilayer perceptron of src.training.networks, with the pixels as its inputs.

    Args:
        shape: (C, H, W).
        classes: K.
        settings: the other arguments of src.training.networks.MLP, such as `hidden_sizes` and `activation`.
    """

    def __init__(self, shape: Shape, classes: int, **settings: Any) -> None:
        super().__init__(inputs=prod(shape), outputs=classes, **settings)
        self.insert(0, nn.Flatten())


def _convolution(channels: int, size: int, stride: int = 1) -> list[nn.Module]:
    """A 3 x 3 convolution of `channels` to `size` channels with batch norm and ReLU."""
    return [nn.Conv2d(channels, size, 3, stride, 1, bias=False), nn.BatchNorm2d(size), nn.ReLU()]


def _cannot_take(name: str, shape: Shape, error: Exception) -> str:
    return (
        f"model.network: {name} cannot take images of {shape[1]} x {shape[2]} ({error}); set prepare.resize "
        "or choose another network"
    )


def _require_size(side: int, shape: Shape, smallest: int) -> None:
    if side < 1:
        raise ConfigurationError(
            f"model.network: images of {shape[1]} x {shape[2]}, expected at least {smallest} x {smallest}; "
            "set prepare.resize or choose another network"
        )
