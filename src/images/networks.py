"""The networks of the images room, and gradients written by hand.

B batch, C channels, H height, W width, K classes, F features, O outputs
"""

from collections.abc import Callable, Iterable
from math import prod
from typing import Any, Literal

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call
from torch.nn import functional

from src.core.errors import ConfigurationError

Shape = tuple[int, int, int]
NetworkCallable = Callable[[Shape, int], nn.Module]

ACTIVATIONS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}
POOLINGS: dict[str, type[nn.Module]] = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}


class LeNet(nn.Sequential):
    """LeNet-5 (LeCun et al. 1998, Gradient-based learning applied to document recognition) as in the course.

    Args:
        shape: (C, H, W).
        classes: K.
        activation: after both convolutions and two of the three linear layers.
        pooling: after both convolutions.
        initialisation: of all weights: xavier (Glorot and Bengio 2010, equation 16), or torch's default.
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
        act, pool = ACTIVATIONS[activation], POOLINGS[pooling]
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
    """Five 3 x 3 convolutions with batch norm (Ioffe and Szegedy 2015) and ReLU, for scores on small images.

    The first pooling comes early, so that most of the work is done on a quarter of the pixels.

    Args:
        shape: (C, H, W).
        classes: K.
        width: channels of the first convolution; the next two have twice, the last two four times as many.
        dropout: before the last layer.
    """

    def __init__(self, shape: Shape, classes: int, width: int = 32, dropout: float = 0.0) -> None:
        _require_size(min(shape[1:]) // 4, shape, 4)
        layers: list[nn.Module] = []
        channels = shape[0]
        for size in (width, "pool", 2 * width, 2 * width, "pool", 4 * width, 4 * width):
            if isinstance(size, int):
                layers += [
                    nn.Conv2d(channels, size, 3, padding=1, bias=False),
                    nn.BatchNorm2d(size),
                    nn.ReLU(),
                ]
                channels = size
            else:
                layers.append(nn.MaxPool2d(2))
        layers += [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels, classes)]
        super().__init__(*layers)
        self.to(memory_format=torch.channels_last)


class TorchvisionNetwork(nn.Module):
    """Any classification network of torchvision by name, untrained.

    Args:
        shape: (C, H, W); of a grey image the one channel is shown three times.
        classes: K.
        name: as torchvision.models.list_models() lists it, such as resnet18.
    """

    def __init__(self, shape: Shape, classes: int, name: str) -> None:
        super().__init__()
        known = torchvision.models.list_models(module=torchvision.models)
        if name not in known:
            raise ConfigurationError(f"network: torchvision has no {name}; it has {', '.join(known)}")
        self.network = torchvision.models.get_model(name, weights=None, num_classes=classes)
        try:
            with torch.inference_mode():
                self.network.eval()(torch.zeros(1, 3, *shape[1:]))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ConfigurationError(
                f"network: images of {shape[1]} x {shape[2]} do not fit {name} ({error}); "
                "set prepare.resize or take another network"
            ) from None
        self.network.train()

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to logits (B, K)."""
        logits: Tensor = self.network(input.expand(-1, 3, -1, -1))
        return logits


class MLP(nn.Sequential):
    """Linear layers with an activation between: the course's two-layer net with one hidden size.

    Args:
        shape: (C, H, W).
        classes: K.
        hidden_sizes: `[50]` is the course's TwoLayerNet, `[50, 100]` its three-layer net.
        activation: after each hidden layer.
        standard_deviation: of the normal distribution that weights are drawn from; null is torch's default.
        gradient: autograd; manual, each layer's backward as the course derives it; or numerical, the central
            difference over every parameter, in float64 (two forward passes a parameter: for small networks).
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        hidden_sizes: list[int],
        activation: Literal["sigmoid", "relu"] = "sigmoid",
        standard_deviation: float | None = 0.01,
        gradient: Literal["autograd", "manual", "numerical"] = "autograd",
    ) -> None:
        self_made = {"relu": ManualReLU, "sigmoid": ManualSigmoid}
        linear, act = (
            (ManualLinear, self_made[activation])
            if gradient == "manual"
            else (nn.Linear, ACTIVATIONS[activation])
        )
        sizes = [prod(shape), *hidden_sizes]
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in zip(sizes, hidden_sizes, strict=False):
            layers += [linear(inputs, outputs), act()]
        super().__init__(*layers, linear(sizes[-1], classes))
        self.gradient = gradient
        self.seen: Tensor | None = None
        if standard_deviation is not None:
            for layer in self:
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=standard_deviation)
                    nn.init.zeros_(layer.bias)

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to logits (B, K)."""
        if self.gradient == "numerical" and self.training:
            self.seen = input  # the loss is evaluated anew for every parameter
        logits: Tensor = super().forward(input)
        return logits

    def loss(self, logits: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        """Mean cross-entropy of logits (B, K) for classes (B,), whose backward is what `gradient` says."""
        if self.gradient == "manual":
            if label_smoothing:
                raise ConfigurationError("label_smoothing: gradient: manual is written without it")
            loss: Tensor = SoftmaxWithLoss.apply(logits, target)
            return loss
        loss = functional.cross_entropy(logits, target, label_smoothing=label_smoothing)
        if self.gradient == "numerical" and logits.requires_grad:
            assert self.seen is not None
            gradients = numerical_gradients(self, self.seen, target, label_smoothing)
            parameters = dict(self.named_parameters())
            # 0 in value, and its gradient is what the differences say
            planes = [(p * gradients[name].to(p.dtype)).sum() for name, p in parameters.items()]
            return loss.detach() + sum(plane - plane.detach() for plane in planes)
        return loss


class Affine(Function):
    """x W^T + b with its backward: dx = dy W, dW = dy^T x, db = sum of dy over the batch."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """(B, F), (O, F), (O,) to (B, O)."""
        ctx.save_for_backward(input, weight)
        return input @ weight.T + bias

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From (B, O)."""
        (gradient,) = gradients
        input, weight = ctx.saved_tensors
        return gradient @ weight, gradient.T @ input, gradient.sum(dim=0)


class ReLU(Function):
    """max(x, 0) with its backward: dx = dy where x > 0."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        """Elementwise, any shape."""
        ctx.save_for_backward(input > 0)
        return input.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Elementwise."""
        (positive,) = ctx.saved_tensors
        return gradients[0] * positive


class Sigmoid(Function):
    """y = 1 / (1 + exp(-x)) with its backward: dx = dy y (1 - y)."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        """Elementwise, any shape."""
        output = input.sigmoid()
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Elementwise."""
        (output,) = ctx.saved_tensors
        return gradients[0] * output * (1 - output)


class SoftmaxWithLoss(Function):
    """Mean cross-entropy of a softmax with its backward: (softmax - one-hot target) / B."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        """(B, K) and classes (B,) to a number."""
        logarithms = logits.log_softmax(dim=1)  # (B, K)
        ctx.save_for_backward(logarithms, target)
        return -logarithms.gather(1, target[:, None]).mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """From a number."""
        logarithms, target = ctx.saved_tensors
        difference = logarithms.exp() - functional.one_hot(target, logarithms.shape[1])  # (B, K)
        return gradients[0] * difference / len(target), None


class ManualLinear(nn.Linear):
    """A linear layer whose gradient is `Affine`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, F) to (B, O)."""
        output: Tensor = Affine.apply(input, self.weight, self.bias)
        return output


class ManualReLU(nn.Module):
    """ReLU whose gradient is written by hand."""

    def forward(self, input: Tensor) -> Tensor:
        """Elementwise."""
        output: Tensor = ReLU.apply(input)
        return output


class ManualSigmoid(nn.Module):
    """Sigmoid whose gradient is written by hand."""

    def forward(self, input: Tensor) -> Tensor:
        """Elementwise."""
        output: Tensor = Sigmoid.apply(input)
        return output


@torch.no_grad()
def central_differences(
    function: Callable[[], Tensor], parameter: Tensor, elements: Iterable[int], step: float = 1e-4
) -> Tensor:
    """(f(p + h) - f(p - h)) / 2h for some elements of a parameter, which is put back after each.

    Args:
        function: of no argument, to a number; it depends on the parameter.
        parameter: float64, any shape.
        elements: positions in the flattened parameter.
        step: h.

    Returns:
        One number an element.
    """
    flat = parameter.view(-1)
    slopes = []
    for element in elements:
        value = flat[element].item()
        flat[element] = value + step
        above = function()
        flat[element] = value - step
        below = function()
        flat[element] = value
        slopes.append((above - below) / (2 * step))
    return torch.stack(slopes)


def numerical_gradients(
    network: MLP, images: Tensor, target: Tensor, label_smoothing: float = 0.0
) -> dict[str, Tensor]:
    """The gradient of the mean cross-entropy by central differences, in float64.

    Args:
        network: whose parameters; they are not touched.
        images: (B, C, H, W).
        target: classes (B,).
        label_smoothing: of the cross-entropy.

    Returns:
        A gradient of each parameter's shape, by name.
    """
    doubles = {name: p.detach().double() for name, p in network.named_parameters()}
    inputs = images.double()

    def loss() -> Tensor:
        logits = functional_call(network, doubles, (inputs,))
        return functional.cross_entropy(logits, target, label_smoothing=label_smoothing)

    return {
        name: central_differences(loss, parameter, range(parameter.numel())).view_as(parameter)
        for name, parameter in doubles.items()
    }


def _require_size(side: int, shape: Shape, smallest: int) -> None:
    if side < 1:
        raise ConfigurationError(
            f"network: images of {shape[1]} x {shape[2]} are too small, it needs {smallest} x {smallest}; "
            "set prepare.resize or take another network"
        )


def feature_maps(network: nn.Module, image: Tensor) -> list[tuple[str, NDArray[np.float32]]]:
    """What each convolution and pooling makes of one image.

    Args:
        network: in evaluation mode.
        image: (1, C, H, W), scaled.

    Returns:
        A description with the formula of the size, and the maps (C, H, W), layer by layer.
    """
    found: list[tuple[str, NDArray[np.float32]]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        found.append((_size_formula(layer, inputs[0], output), output[0].cpu().numpy()))

    kinds = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
    hooks = [layer.register_forward_hook(note) for layer in network.modules() if isinstance(layer, kinds)]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _size_formula(layer: nn.Module, input: Tensor, output: Tensor) -> str:
    """The height: floor((H + 2 padding - dilation (kernel - 1) - 1) / stride) + 1, with its numbers."""

    def first(value: Any) -> int:
        return int(value[0] if isinstance(value, tuple) else value)

    name = type(layer).__name__
    kernel, stride, padding = (first(getattr(layer, key)) for key in ("kernel_size", "stride", "padding"))
    size = " x ".join(map(str, output.shape[1:]))
    return f"{name}: {size}; ({input.shape[2]} + 2*{padding} - {kernel}) / {stride} + 1 = {output.shape[2]}"
