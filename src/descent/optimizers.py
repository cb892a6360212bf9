"""The update rules of the course, written out. torch.optim has the same optimizers.

x parameter, g its gradient, v velocity, s mean or sum of squared gradients
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Closure = Callable[[], Any] | None


class _ByHand(Optimizer):
    """An optimizer whose rule updates one tensor at a time."""

    def __init__(self, params: Iterable[Tensor], **settings: float) -> None:
        super().__init__(params, settings)

    def update(self, x: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Change x in place."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Closure = None) -> Any:
        """Do one step; a closure, which Lightning passes, computes the loss first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for x in group["params"]:
                if x.grad is not None:
                    self.update(x, x.grad, self.state[x], group)
        return loss


class GradientDescent(_ByHand):
    """x <- x - lr g (Cauchy 1847); `torch.optim.SGD`."""

    def __init__(self, params: Iterable[Tensor], lr: float = 0.01) -> None:
        super().__init__(params, lr=lr)

    def update(self, x: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """See the class."""
        x -= group["lr"] * g


class Momentum(_ByHand):
    """v <- momentum v - lr g, x <- x + v (Polyak 1964).

    torch.optim.SGD does not multiply the velocity by the learning rate: v <- momentum v + g, x <- x - lr v.
    The paths are equal for a constant learning rate. When a schedule lowers it, the velocity here still
    contains steps of the old rate, so it slows down later.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 0.01, momentum: float = 0.9) -> None:
        super().__init__(params, lr=lr, momentum=momentum)

    def update(self, x: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """See the class."""
        v = state.setdefault("v", torch.zeros_like(x))
        v.mul_(group["momentum"]).sub_(group["lr"] * g)
        x += v


class AdaGrad(_ByHand):
    """s <- s + g^2, x <- x - lr g / (sqrt(s) + eps) (Duchi et al. 2011).

    The default eps is that of the course; that of torch.optim.Adagrad is 1e-10.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 0.01, eps: float = 1e-7) -> None:
        super().__init__(params, lr=lr, eps=eps)

    def update(self, x: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """See the class."""
        s = state.setdefault("s", torch.zeros_like(x))
        s += g**2
        x -= group["lr"] * g / (s.sqrt() + group["eps"])


class RMSprop(_ByHand):
    """s <- alpha s + (1 - alpha) g^2, x <- x - lr g / (sqrt(s) + eps) (Tieleman and Hinton 2012)."""

    def __init__(
        self, params: Iterable[Tensor], lr: float = 0.01, alpha: float = 0.99, eps: float = 1e-8
    ) -> None:
        super().__init__(params, lr=lr, alpha=alpha, eps=eps)

    def update(self, x: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """See the class."""
        s = state.setdefault("s", torch.zeros_like(x))
        s.mul_(group["alpha"]).add_((1 - group["alpha"]) * g**2)
        x -= group["lr"] * g / (s.sqrt() + group["eps"])


class Adam(_ByHand):
    """Bias-corrected means of g and g^2 (Kingma and Ba 2015, algorithm 1)."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, lr=lr, beta1=beta1, beta2=beta2, eps=eps)

    def update(self, x: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """See the class."""
        v = state.setdefault("v", torch.zeros_like(x))
        s = state.setdefault("s", torch.zeros_like(x))
        state["steps"] = state.get("steps", 0) + 1
        v.mul_(group["beta1"]).add_((1 - group["beta1"]) * g)
        s.mul_(group["beta2"]).add_((1 - group["beta2"]) * g**2)
        mean = v / (1 - group["beta1"] ** state["steps"])
        square = s / (1 - group["beta2"] ** state["steps"])
        x -= group["lr"] * mean / (square.sqrt() + group["eps"])
