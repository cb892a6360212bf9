"""Gradients written by hand and by finite differences, for the course's chapters on backpropagation.

B batch, C channels, H height, W width, K classes, F features, O outputs
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call
from torch.nn import functional

from src.core.errors import ConfigurationError
from src.images.networks import MLP, Shape


class BackpropMLP(MLP):
    """The course's multilayer perceptron, whose gradient is computed in one of three ways.

    Args:
        shape: (C, H, W).
        classes: K.
        hidden_sizes: `[50]` is the course's TwoLayerNet, `[50, 100]` its three-layer net.
        activation: after each hidden layer.
        standard_deviation: of the normal distribution from which the weights are drawn; biases start at 0.
        gradient: `autograd`; `manual`, the backward pass of each layer as the course derives it; or
            `numerical`, the central difference for each parameter in float64 (two forward passes per
            parameter, so for small networks only).
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        hidden_sizes: list[int],
        activation: Literal["sigmoid", "relu"] = "sigmoid",
        standard_deviation: float = 0.01,
        gradient: Literal["autograd", "manual", "numerical"] = "autograd",
    ) -> None:
        super().__init__(
            shape,
            classes,
            hidden_sizes=hidden_sizes,
            activation=activation,
            initialisation={"normal": {"std": standard_deviation}},
        )
        self.gradient = gradient
        self.images: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to logits (B, K)."""
        if self.gradient == "numerical" and self.training:
            self.images = input  # `loss` evaluates the network again for each parameter
        if self.gradient != "manual":
            logits: Tensor = super().forward(input)
            return logits
        for layer in self:
            if isinstance(layer, nn.Linear):
                input = Affine.apply(input, layer.weight, layer.bias)
            elif isinstance(layer, nn.ReLU):
                input = ReLU.apply(input)
            elif isinstance(layer, nn.Sigmoid):
                input = Sigmoid.apply(input)
            else:
                input = layer(input)  # Flatten
        return input

    def loss(self, logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy whose backward pass is the one that `gradient` names.

        Args:
            logits: (B, K), of the last call of the network.
            target: classes (B,).
            label_smoothing: of the cross-entropy.

        Raises:
            ConfigurationError: `gradient` is manual and `label_smoothing` is not 0.
        """
        if self.gradient == "manual":
            if label_smoothing:
                raise ConfigurationError(
                    f"model.label_smoothing: {label_smoothing}, expected 0 with gradient: manual"
                )
            loss: Tensor = SoftmaxWithLoss.apply(logits, target)
            return loss
        loss = functional.cross_entropy(logits, target, label_smoothing=label_smoothing)
        if self.gradient == "numerical" and logits.requires_grad:
            assert self.images is not None
            gradients = numerical_gradients(self, self.images, target, label_smoothing)
            # terms with the value 0, whose gradients are the differences
            planes = [(p * gradients[name].to(p.dtype)).sum() for name, p in self.named_parameters()]
            return loss.detach() + sum(plane - plane.detach() for plane in planes)
        return loss


class Affine(Function):
    """x W^T + b with its backward pass: dx = dy W, dW = dy^T x, db = sum of dy over the batch."""

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
    """max(x, 0) with its backward pass: dx = dy where x > 0."""

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
    """y = 1 / (1 + exp(-x)) with its backward pass: dx = dy y (1 - y)."""

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
    """Mean cross-entropy of a softmax with its backward pass: (softmax - one-hot target) / B."""

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


@torch.no_grad()
def central_differences(
    function: Callable[[], Tensor], parameter: Tensor, elements: Iterable[int], step: float = 1e-4
) -> Tensor:
    """The derivatives (f(p + h) - f(p - h)) / 2h with respect to some elements of a parameter.

    Args:
        function: returns a number that depends on the parameter.
        parameter: float64, any shape; each element is restored after its turn.
        elements: positions in the flattened parameter.
        step: h.

    Returns:
        One derivative per element.
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
        network: its parameters are not changed.
        images: (B, C, H, W).
        target: classes (B,).
        label_smoothing: of the cross-entropy.

    Returns:
        The gradient of each parameter, in its shape, by name.
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
