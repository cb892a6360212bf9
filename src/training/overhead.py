"""Ways around costs of Lightning that a training of one second feels; results do not depend on them."""

from contextlib import nullcontext
from typing import Any

from lightning import LightningModule
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.trainer.states import TrainerFn


class NoProfiler(PassThroughProfiler):
    """Lightning asks its profiler some fifty times a step; this one answers without a generator each time."""

    nothing = nullcontext()

    def profile(self, action_name: str) -> Any:
        """A context that does nothing."""
        return self.nothing


def log_epoch(module: LightningModule, stage: str, metrics: dict[str, Any]) -> None:
    """Log the metrics of an epoch as `<stage>/<name>`, as `self.log_dict` does.

    During a fit they go straight to the trainer's `callback_metrics`, where callbacks and schedules look for
    them: `self.log` takes about a millisecond a value, which an epoch of a small network feels.
    """
    named = {f"{stage}/{name}": value for name, value in metrics.items()}
    if module.trainer.state.fn == TrainerFn.FITTING:
        module.trainer.callback_metrics.update(named)
    else:
        module.log_dict(named, sync_dist=True)
