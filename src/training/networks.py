"""The multilayer perceptron, its activations, norms and initialisations.

B batch, F features, H hidden units, O outputs
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from src.core.errors import TRACEBACK_VARIABLE, ConfigurationError

# a name, or {name: arguments}, as in `relu` or `{leaky_relu: {negative_slope: 0.1}}`
Choice = str | dict[str, dict[str, Any]]

Found = TypeVar("Found")


class Step(nn.Module):
    """The step function: 1 above 0, else 0. Its gradient is 0, so the layers before it do not learn."""

    def forward(self, input: Tensor) -> Tensor:
        """Elementwise, any shape."""
        return (input > 0).to(input.dtype)


ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    "identity": nn.Identity,
    "step": Step,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "rrelu": nn.RReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "softmax": partial(nn.Softmax, dim=-1),
}

NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}

INITIALISATIONS: dict[str, Callable[..., Any]] = {
    "constant": nn.init.constant_,
    "zeros": nn.init.zeros_,
    "ones": nn.init.ones_,
    "eye": nn.init.eye_,
    "normal": nn.init.normal_,
    "uniform": nn.init.uniform_,
    "xavier_normal": nn.init.xavier_normal_,
    "xavier_uniform": nn.init.xavier_uniform_,
    "kaiming_normal": nn.init.kaiming_normal_,
    "kaiming_uniform": nn.init.kaiming_uniform_,
}


def require_outputs(network: nn.Module, inputs: Tensor, outputs: int) -> None:
    """Try a network before its training. Its mode and the random numbers stay as they are.

    Args:
        network: in any mode.
        inputs: of two examples (2, ...).
        outputs: O.

    Raises:
        ConfigurationError: the network fails, or its outputs have another shape than (2, O).
    """
    modes = {module: module.training for module in network.modules()}
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            found = network.eval()(inputs)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"model.network: {type(network).__name__} fails for inputs of shape {tuple(inputs.shape)}: "
            f"{error} (for the traceback: {TRACEBACK_VARIABLE}=1)"
        ) from error
    finally:
        for module, training in modes.items():
            module.training = training
    if not isinstance(found, Tensor) or found.shape != (2, outputs):
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ConfigurationError(
            f"model.network: {type(network).__name__} gives {shape} for two examples, expected {(2, outputs)}"
        )


def chosen(choice: Choice, known: dict[str, Found], key: str) -> tuple[Found, dict[str, Any]]:
    """Look up a choice.

    Args:
        choice: a name, or a dictionary of one name and its arguments.
        known: the possible values by name.
        key: of the configuration, for error messages.

    Returns:
        The value of that name, and the arguments.

    Raises:
        ConfigurationError: the name is unknown, or there are several.
    """
    name, arguments = (choice, {}) if isinstance(choice, str) else next(iter(choice.items()), ("", {}))
    if name not in known or (isinstance(choice, dict) and len(choice) != 1):
        raise ConfigurationError(f"{key}: {choice!r} is not one of {', '.join(known)}")
    return known[name], arguments or {}


def per_layer(choices: Choice | list[Choice], layers: int, key: str) -> list[Choice]:
    """Return one choice per layer, from one choice for all layers or from a list."""
    if not isinstance(choices, list):
        return [choices] * layers
    if len(choices) != layers:
        raise ConfigurationError(f"{key}: {len(choices)} values for {layers} layers")
    return choices


class MLP(nn.Sequential):
    """Linear, norm, activation, dropout for each hidden layer, then a linear output.

    Args:
        inputs: F, given by the data.
        outputs: O, given by the data.
        hidden_sizes: H of each hidden layer; `[]` is a linear model.
        activation: identity, step, sigmoid, tanh, relu, leaky_relu, prelu, rrelu, elu, silu, softplus or
            softmax, with arguments as in `{leaky_relu: {negative_slope: 0.1}}`; or a list, one per hidden
            layer.
        norm: of each hidden layer: none, batch (Ioffe and Szegedy 2015) or layer (Ba et al. 2016).
        dropout: the probability that an activation is set to 0 in training, in [0, 1).
        initialisation: of the weights: default is PyTorch's (Kaiming uniform, He et al. 2015); or constant
            ({constant: {k: 0.1}}), zeros, ones, eye, normal ({normal: {std: 0.01}}), uniform
            ({uniform: {a: -0.1, b: 0.1}}), xavier_normal, xavier_uniform, kaiming_normal or kaiming_uniform,
            or a list of these, one per linear layer, with biases of 0.
        share_hidden: use one linear layer for all hidden layers from the second on.

    Raises:
        ConfigurationError: an unknown name, a list of the wrong length, or a value out of range.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden_sizes: list[int],
        activation: Choice | list[Choice] = "relu",
        norm: Literal["none", "batch", "layer"] = "none",
        dropout: float = 0.0,
        initialisation: Choice | list[Choice] = "default",
        share_hidden: bool = False,
    ) -> None:
        if share_hidden and len(set(hidden_sizes)) != 1:
            raise ConfigurationError(f"share_hidden needs equal hidden_sizes: {hidden_sizes}")
        if any(size < 1 for size in hidden_sizes):
            raise ConfigurationError(f"hidden_sizes must be at least 1: {hidden_sizes}")
        if not 0 <= dropout < 1:
            raise ConfigurationError(f"dropout must be at least 0 and below 1: {dropout}")
        super().__init__()
        activations = per_layer(activation, len(hidden_sizes), "activation")
        linears: list[nn.Linear] = []
        for size, choice in zip(hidden_sizes, activations, strict=True):
            shared = share_hidden and len(linears) >= 2
            linear = linears[1] if shared else nn.Linear(inputs, size)
            linears.append(linear)
            self.append(linear)
            if norm != "none":
                self.append(NORMS[norm](size))
            module, arguments = chosen(choice, ACTIVATIONS, "activation")
            self.append(_called(module, arguments, "activation"))
            if dropout:
                self.append(nn.Dropout(dropout))
            inputs = size
        linears.append(nn.Linear(inputs, outputs))
        self.append(linears[-1])
        if initialisation != "default":
            _initialise(linears, per_layer(initialisation, len(linears), "initialisation"))


def _called(function: Callable[..., Found], arguments: dict[str, Any], key: str, *given: Any) -> Found:
    try:
        return function(*given, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{key}: {error}") from None


def _initialise(linears: list[nn.Linear], choices: list[Choice]) -> None:
    names = {"constant": {"k": "val"}, "normal": {"sigma": "std"}}
    for linear, choice in zip(linears, choices, strict=True):
        function, arguments = chosen(choice, INITIALISATIONS, "initialisation")
        short = names.get(choice if isinstance(choice, str) else next(iter(choice)), {})
        arguments = {short.get(name, name): value for name, value in arguments.items()}
        _called(function, arguments, "initialisation", linear.weight)
        nn.init.zeros_(linear.bias)
