"""The optimizer and the learning-rate schedule of a configuration, in the form of Lightning."""

import logging
import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer, lr_scheduler
from torch.optim.lr_scheduler import ReduceLROnPlateau

from src.core.errors import ConfigurationError

logger = logging.getLogger(__name__)

ParameterGroups = list[dict[str, Any]]


class OneCycle(lr_scheduler.OneCycleLR):
    """torch's one-cycle schedule, whose highest rate is the `lr` of the optimizer (`max_lr` in torch).

    Args:
        optimizer: of each of its groups the rate is the highest one.
        **options: those of torch.optim.lr_scheduler.OneCycleLR other than `max_lr`.
    """

    def __init__(self, optimizer: Optimizer, **options: Any) -> None:
        super().__init__(optimizer, max_lr=[group["lr"] for group in optimizer.param_groups], **options)


class MuonWithAdamW(Optimizer):
    """torch's Muon for matrices and the weights of 2D convolutions, and its AdamW for all other parameters.

    Muon (https://kellerjordan.github.io/posts/muon) orthogonalises the step of a weight matrix; weights of
    convolutions (O, I, H, W) are matrices (O, I * H * W) for it. Its steps are scaled to the size of AdamW's
    (`match_rms_adamw`, https://arxiv.org/abs/2502.16982), so that both take one learning rate and one weight
    decay. Embeddings and output layers are usually left to AdamW: give their parameter group the setting
    `muon: false`.

    Args:
        params: parameters, or groups of parameters.
        lr: the learning rate.
        weight_decay: times the learning rate.
        momentum: of Muon, with Nesterov's correction.
        betas: of AdamW.
        muon: whether Muon takes the matrices and convolutions of a group.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        muon: bool = True,
    ) -> None:
        groups = list(params)
        if groups and not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        matrices: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for group in groups:
            chosen_of = [group.get("muon", muon) and each.ndim in (2, 4) for each in group["params"]]
            for chosen, part in ((True, matrices), (False, others)):
                of_part = [each for each, by in zip(group["params"], chosen_of, strict=True) if by == chosen]
                if of_part:
                    part.append({**group, "params": of_part, "muon": chosen})
        # (optimizer, whether it is Muon); their groups and states are those of this optimizer
        self.parts: list[tuple[Optimizer, bool]] = []
        made: list[dict[str, Any]] = []
        if matrices:
            by_rms = "match_rms_adamw"
            by_muon = Muon(_with_matrices(matrices), lr, weight_decay, momentum, adjust_lr_fn=by_rms)
            self.parts.append((by_muon, True))
            of_muon = zip(by_muon.param_groups, matrices, strict=True)
            made += [{**group, "params": of["params"]} for group, of in of_muon]
        if others:
            self.parts.append((AdamW(others, lr, betas, weight_decay=weight_decay), False))
            made += self.parts[-1][0].param_groups
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "betas": betas,
            "muon": muon,
        }
        super().__init__(made, defaults)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step of both."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for part, is_muon in self.parts:
            # loading a state makes new ones
            groups = [group for group in self.param_groups if group["muon"] == is_muon]
            part.param_groups, part.state = groups, self.state
            if is_muon:
                part.param_groups, part.state = _with_matrices(groups), defaultdict(dict)
                for group, shaped in zip(groups, part.param_groups, strict=True):
                    for parameter, matrix in zip(group["params"], shaped["params"], strict=True):
                        part.state[matrix] = self.state[parameter]
            part.step()
        return loss


def _with_matrices(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups of an optimizer, whose weights (O, I, H, W) are matrices (O, I * H * W) in the same memory."""
    return [{**group, "params": [_matrix(each) for each in group["params"]]} for group in groups]


def _matrix(parameter: Tensor) -> Tensor:
    """A parameter as a matrix in the same memory, with its gradient."""
    if parameter.ndim == 2:
        return parameter
    weight, gradient = parameter.detach(), parameter.grad
    if not weight.is_contiguous():  # channels_last
        weight = weight.movedim(1, 3)
        gradient = None if gradient is None else gradient.movedim(1, 3)
    matrix = weight.view(len(weight), -1)
    matrix.grad = None if gradient is None else gradient.reshape(len(weight), -1)
    return matrix


def grouped(module: nn.Module, groups: ParameterGroups) -> ParameterGroups:
    """The groups of an optimizer: the parameters that no pattern matches, then those of each pattern.

    Args:
        module: its parameters are divided.
        groups: each with a regular expression `pattern`, which is searched in the name of a parameter and in
            the class of its layer, so that `bias|Norm` finds all biases and norms; and settings of the
            optimizer. The first pattern that matches a parameter has it.

    Raises:
        ConfigurationError: no pattern, one that is none, or one that matches nothing.
    """
    found: ParameterGroups = [{"params": []} for _ in range(len(groups) + 1)]
    patterns = []
    for number, group in enumerate(groups):
        key = f"model.parameter_groups[{number}]"
        if not isinstance(group.get("pattern"), str) or "params" in group:
            raise ConfigurationError(
                f"{key}: expected a `pattern` and settings of the optimizer, found {group}"
            )
        try:
            patterns.append(re.compile(group["pattern"]))
        except re.error as error:
            raise ConfigurationError(f"{key}.pattern: {group['pattern']}: {error}") from None
        found[number + 1] |= {name: value for name, value in group.items() if name != "pattern"}
    for name, parameter in module.named_parameters():
        # torch's fully_shard adds the prefix
        layer = type(module.get_submodule(name.rpartition(".")[0])).__name__.removeprefix("FSDP")
        matching = [
            number
            for number, pattern in enumerate(patterns, 1)
            if pattern.search(name) or pattern.search(layer)
        ]
        found[matching[0] if matching else 0]["params"].append(parameter)
    for number, group in enumerate(found[1:]):
        if not group["params"]:
            names = ", ".join(name for name, _ in module.named_parameters())
            raise ConfigurationError(
                f"model.parameter_groups[{number}].pattern: {groups[number]['pattern']} matches none of the "
                f"parameters that are left; all are: {names}"
            )
    return [group for group in found if group["params"]]


def _check_settings(optimizer: Optimizer, group: dict[str, Any], key: str) -> None:
    """Refuse settings that the optimizer does not have, or of another kind."""
    for name, value in group.items():
        if name == "pattern":
            continue
        if name not in optimizer.defaults:
            known = ", ".join(optimizer.defaults)
            raise ConfigurationError(
                f"{key}: {type(optimizer).__name__} has no setting {name}; it has {known}"
            )
        numbers = int | float
        if isinstance(optimizer.defaults[name], numbers) and not isinstance(value, numbers):
            raise ConfigurationError(f"{key}.{name}: expected a number, found {value!r}")


def optimizer_and_schedule(
    module: LightningModule,
    optimizer_of: OptimizerCallable,
    lr_scheduler_of: LRSchedulerCallable | None,
    interval: str,
    parameter_groups: ParameterGroups | None = None,
) -> dict[str, Any]:
    """The return value of `configure_optimizers`.

    A schedule that needs its number of steps (OneCycleLR) gets that of the training if none is configured.

    Args:
        module: its parameters are trained.
        optimizer_of: from parameters to the optimizer.
        lr_scheduler_of: from the optimizer to the schedule.
        interval: "epoch" or "step", when the schedule advances.
        parameter_groups: settings of the optimizer for parameters by name, as `grouped` takes them.

    Raises:
        ConfigurationError: of `grouped`, or a schedule that overrides the rates of groups.
    """
    groups = parameter_groups or []
    optimizer = optimizer_of(grouped(module, groups) if groups else module.parameters())
    for number, group in enumerate(groups):
        _check_settings(optimizer, group, f"model.parameter_groups[{number}]")
    if lr_scheduler_of is None:
        return {"optimizer": optimizer}
    told = getattr(lr_scheduler_of, "keywords", {})
    arguments = {}
    if "total_steps" in told and told["total_steps"] is None and told.get("epochs") is None:
        steps = module.trainer.estimated_stepping_batches
        epochs = module.trainer.max_epochs
        arguments = {"total_steps": steps if interval == "step" else epochs}
    rate = optimizer.defaults.get("lr")
    scheduler = lr_scheduler_of(optimizer, **arguments)
    one_rate = isinstance(scheduler, lr_scheduler.OneCycleLR | lr_scheduler.CyclicLR)
    if one_rate and not isinstance(scheduler, OneCycle) and any("lr" in group for group in groups):
        raise ConfigurationError(
            f"model.parameter_groups: {type(scheduler).__name__} sets one lr for all groups; use "
            "src.training.optimizers.OneCycle"
        )
    if isinstance(scheduler, lr_scheduler.OneCycleLR) and rate is not None:
        highest = {group["max_lr"] for group in optimizer.param_groups}
        if not isinstance(scheduler, OneCycle) and highest != {rate}:
            logger.warning(
                "model.optimizer.lr: %g does nothing, since max_lr: %s of OneCycleLR replaces it; set both, "
                "or use src.training.optimizers.OneCycle, which takes lr",
                *(rate, ", ".join(f"{value:g}" for value in sorted(highest))),
            )
    settings: dict[str, Any] = {"scheduler": scheduler, "interval": interval}
    if isinstance(scheduler, ReduceLROnPlateau):
        # Lightning's class has a `monitor`, torch's has none
        settings["monitor"] = getattr(scheduler, "monitor", "validation/loss")
    return {"optimizer": optimizer, "lr_scheduler": settings}
