"""Lightning's finders of a learning rate and of a batch size, after which nothing is trained."""

from collections.abc import Iterable

from lightning import Callback, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder


def stop_after_finding(callbacks: Iterable[Callback]) -> None:
    """Let the finders among some callbacks end the training, as Lightning's Tuner does.

    Args:
        callbacks: of a Trainer.
    """
    for callback in callbacks:
        if isinstance(callback, BatchSizeFinder | LearningRateFinder):
            callback._early_exit = True


def found_by(trainer: Trainer) -> str | None:
    """One line about what a finder has found; None without a finder.

    Args:
        trainer: that has ended.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, LearningRateFinder) and callback.optimal_lr is not None:
            text = f"learning rate {callback.optimal_lr.suggestion()}"
        elif isinstance(callback, BatchSizeFinder):
            text = f"batch size {callback.optimal_batch_size}"
        else:
            continue
        return f"{type(callback).__name__}: {text}; write it into the configuration"
    return None
