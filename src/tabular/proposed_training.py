"""Of a proposal for a table: the configuration of the training."""

import math
from typing import Any

import pandas as pd

from src.preparation.proposals import Noted, configuration, one_cycle, plain
from src.reporting.noise import UNBALANCED

MOST_CELLS = 1_000_000  # above, one network takes less time
ENSEMBLE_ROWS, ENSEMBLE_BATCHES = 4000, 8
MANY_ROWS = 10_000

STEPS = 2000
BATCHES = 16  # per epoch, within the bounds of the batch size
RATE = 0.005

VALIDATION_SHARE = 0.1  # where a part of the rows is kept for it
LEAST_UNSEEN = 20  # rows from which on a threshold, an interval or a rare class is learnt


def training_of(
    table: pd.DataFrame, targets: list[str], classes: int, grouped: bool
) -> tuple[dict[str, Any], list[str]]:
    """The configuration of the training: an ensemble of small networks, or one network for a large table.

    Args:
        table: all rows.
        targets: the columns to predict.
        classes: their number, 0 for quantities.
        grouped: whether a column says which rows stay together, or their part.

    Returns:
        The configuration, and why the model is to decide as it says.
    """
    several, small = len(targets) > 1, table.size < MOST_CELLS
    loss = ("huber" if small else "smooth_l1") if not classes else "bce" if several else "cross_entropy"
    proposed = _ensemble(len(table), loss, grouped) if small else _one_network(len(table), loss)
    # an ensemble is validated on all rows, unless they stay together
    unseen = len(table) * (1 if small and not grouped else VALIDATION_SHARE)
    decisions: dict[str, Noted] = {}
    if not classes and unseen >= LEAST_UNSEEN:
        why = "predict adds two columns, between which 90 % of the values lie"
        decisions["interval"] = Noted(0.9, why)
    elif classes and not several:
        decisions = _of_classes(table[targets[0]], unseen / len(table), small)
    proposed["model"]["init_args"] |= decisions
    return proposed, [f"{key}: {plain(value)}: {value.note}" for key, value in decisions.items()]


def _of_classes(column: "pd.Series[Any]", share: float, ensemble: bool) -> dict[str, Noted]:
    """What a model of classes is to decide by.

    Args:
        column: the classes.
        share: of the rows, by which decisions are learnt.
        ensemble: whether the model is one.
    """
    counts = column.value_counts()
    name, rarest = counts.index[-1], int(counts.iloc[-1])
    seldom = f"'{name}' is the class of {rarest / counts.sum():.2g} of the rows"
    if counts.iloc[0] > UNBALANCED * counts.sum():
        if len(counts) == 2 and rarest * share >= LEAST_UNSEEN:
            why = f"{seldom}: from the probability 0.5 on it would hardly be answered"
            return {"threshold": Noted("f1", why)}
        if rarest >= LEAST_UNSEEN:  # the weights of fewer rows would let them decide everything
            return {"class_weights": Noted("auto", f"{seldom}: without weights it would hardly be answered")}
    return {} if ensemble else {"calibrate": Noted(True, "one network is often too sure of its answers")}


def _ensemble(rows: int, loss: str, grouped: bool) -> dict[str, Any]:
    most = 128 if rows < ENSEMBLE_ROWS else 256
    batch_size = min(max(2 ** int(math.log2(rows / ENSEMBLE_BATCHES)), 16), most)
    # folds are cut by rows: the best epoch would be that of known groups
    data = "TabularData" if grouped else "FoldedData"
    members = (
        "networks, whose answers are averaged"
        if grouped
        else "networks; each leaves out one of 8 folds of the rows"
    )
    averaging = {
        "class_path": "lightning.pytorch.callbacks.EMAWeightAveraging",
        "init_args": {"decay": 0.98, "use_buffers": False},
    }
    stopping = {
        "class_path": "lightning.pytorch.callbacks.EarlyStopping",
        "init_args": {"monitor": "validation/loss", "patience": 10},
    }
    return configuration(
        300,
        callbacks=[averaging, stopping],
        data={"class_path": f"src.tabular.data.{data}", "init_args": {"batch_size": batch_size}},
        model={
            "class_path": "src.tabular.ensemble.TabularEnsemble",
            "init_args": {
                "members": Noted(16, members),
                "hidden_sizes": Noted([64, 64], "units of each hidden layer"),
                "dropout": 0.25,
                "loss": loss,
                "optimizer": {
                    "class_path": "torch.optim.Adam",
                    "init_args": {"lr": 0.01, "betas": [0.9, 0.95], "fused": True},
                },
                "lr_scheduler": {
                    "class_path": "torch.optim.lr_scheduler.LinearLR",
                    "init_args": {"start_factor": 0.1, "total_iters": Noted(10, "steps of warm-up")},
                },
                "lr_interval": "step",
                "parameter_groups": Noted(
                    [{"pattern": "scale", "lr": 0.06}], "the factors of the inputs learn more quickly"
                ),
            },
        },
    )


def _one_network(rows: int, loss: str) -> dict[str, Any]:
    batch_size = int(min(max(2 ** round(math.log2(rows / BATCHES)), 16), 256))
    epochs = min(max(round(STEPS * batch_size / rows), 10), 100)
    hidden_sizes = [64, 64] if rows < MANY_ROWS else [256, 128]
    return configuration(
        epochs,
        data={"class_path": "src.tabular.data.TabularData", "init_args": {"batch_size": batch_size}},
        model={
            "class_path": "src.tabular.model.TabularModel",
            "init_args": {
                "network": {
                    "class_path": "src.training.networks.MLP",
                    "init_args": {
                        "hidden_sizes": Noted(
                            hidden_sizes, "units of each hidden layer; [] is a linear model"
                        ),
                        "activation": "relu",
                        "norm": "batch",
                        "dropout": 0.2,
                    },
                },
                "loss": loss,
                **one_cycle("AdamW", RATE, weight_decay=Noted(0.1, "increase it if training overfits")),
            },
        },
    )
