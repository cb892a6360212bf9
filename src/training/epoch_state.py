"""What a training has gathered since an epoch began, for a checkpoint within it.

Lightning's checkpoint has the weights, optimizers, schedules, callbacks and the positions of the loops. It
has neither the means that `self.log` takes over an epoch nor the gradients of a manual optimization.
"""

import builtins
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torchmetrics import Metric

from src.training.attributes import named_metrics


def epoch_state(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """The state of an unfinished epoch, which `restore_epoch` takes.

    Args:
        trainer: after all of a batch, outside the accumulation of gradients.
        module: that is trained.
    """
    manual = not module.automatic_optimization
    state = {
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        "logged_metrics": dict(trainer.logged_metrics),
        "results": [_saved(item) for item in _results(trainer).values() if not item.has_reset],
        "gradients": {name: p.grad for name, p in module.named_parameters() if manual and p.grad is not None},
    }
    copied: dict[str, Any] = apply_to_collection(state, Tensor, lambda tensor: tensor.detach().clone())
    return copied


def restore_epoch(trainer: Trainer, module: LightningModule, state: dict[str, Any]) -> None:
    """Go on with an unfinished epoch.

    Args:
        trainer: before its first batch.
        module: that is trained, on its device.
        state: of `epoch_state`.
    """
    state = move_data_to_device(state, module.device)
    trainer.accumulate_grad_batches = state["accumulate_grad_batches"]
    trainer.logged_metrics.update(state["logged_metrics"])
    metrics = dict(named_metrics(module))
    for saved in state["results"]:
        _restore(trainer, saved, metrics)
    # otherwise Lightning resets what was logged at the first batch
    trainer._logger_connector._first_loop_iter = False
    parameters = dict(module.named_parameters())
    for name, gradient in state["gradients"].items():
        parameters[name].grad = gradient


def _results(trainer: Trainer) -> Any:
    """Lightning's collection of what the training logs."""
    return trainer.fit_loop.epoch_loop._results


def _saved(item: Any) -> dict[str, Any]:
    """A logged name as the arguments of its logging and the values so far."""
    meta, reduction = item.meta, item.meta.reduce_fx.__name__
    return {
        "arguments": {
            "fx": meta.fx,
            "name": meta.name,
            "prog_bar": meta.prog_bar,
            "logger": meta.logger,
            "on_step": meta.on_step,
            "on_epoch": meta.on_epoch,
            "enable_graph": meta.enable_graph,
            "add_dataloader_idx": meta.add_dataloader_idx,
            "metric_attribute": meta.metric_attribute,
            "sync_dist": meta.sync.should,
            "rank_zero_only": meta.sync.rank_zero_only,
        },
        "reduction": reduction,
        "python": meta.reduce_fx is getattr(builtins, reduction, None),
        "value": item.value if item.is_tensor else None,
        "rows": getattr(item, "cumulated_batch_size", None),
        "latest": item._forward_cache,
    }


def _restore(trainer: Trainer, saved: dict[str, Any], metrics: dict[str, Metric]) -> None:
    """Log a name once, as Lightning compares later logging with it, and put the values in."""
    arguments = saved["arguments"]
    value = saved["value"] if saved["value"] is not None else metrics[arguments["metric_attribute"]]
    reduce_fx = getattr(builtins if saved["python"] else torch, saved["reduction"])
    results = _results(trainer)
    results.log(
        **arguments, value=value, batch_size=1, reduce_fx=reduce_fx, sync_dist_fn=trainer.strategy.reduce
    )
    item = results[f"{arguments['fx']}.{arguments['name']}"]
    item._forward_cache = saved["latest"]
    if saved["value"] is not None:
        item.value = saved["value"]
    if saved["rows"] is not None:
        item.cumulated_batch_size = saved["rows"]
