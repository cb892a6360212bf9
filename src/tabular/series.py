"""Forecasts of a series whose features are its own earlier values (`lags`).

B batch
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from src.reporting.figures import save_figure
from src.tabular.data import Splits
from src.tabular.model import TabularModel
from src.tabular.preprocessing import Preprocessing

STEPS_AHEAD = (1, 4, 16, 64)


def forecast(model: TabularModel, features: Tensor, preprocessing: Preprocessing, steps: int) -> Tensor:
    """Predict a series `steps` rows ahead, from predictions where the values are not known.

    Args:
        model: trained on the `lags` of its target.
        features: (B, lags), the latest value first.
        preprocessing: of the training rows.
        steps: 1 is the prediction of the model for the row of the features.

    Returns:
        (B,) in the unit of the target, for the rows `steps - 1` after those of the features.
    """
    scale = torch.tensor([column.scale for column in preprocessing.numeric])
    center = torch.tensor([column.center for column in preprocessing.numeric])
    values = features * scale + center  # (B, lags)
    with torch.inference_mode():
        for _ in range(steps):
            latest = model.predict(model((values - center) / scale))  # (B,)
            values = torch.cat([latest[:, None], values[:, :-1]], dim=1)
    return values[:, 0]


def forecast_errors(
    model: TabularModel, splits: Splits, preprocessing: Preprocessing, path: Path
) -> dict[str, float]:
    """Plot the test rows of a series and their forecasts.

    Args:
        model: trained on the `lags` of its target.
        splits: the prepared data.
        preprocessing: of the training rows.
        path: of the figure.

    Returns:
        The RMSE of each forecast of more than one step, by name.
    """
    features, target = splits["test"]
    actual = model.predict(target)
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    start = sum(len(part) for part, _ in splits.values()) - len(features) + preprocessing.lags + 1
    rows = np.arange(start, start + len(features))
    axes.plot(rows, actual, color="lightgrey", label="data")
    errors = {}
    for steps in (steps for steps in STEPS_AHEAD if steps < len(rows)):
        values = forecast(model, features, preprocessing, steps)[: len(rows) - steps + 1]
        axes.plot(rows[steps - 1 :], values, linewidth=1, label=f"{steps} ahead")
        if steps > 1:
            error = values - actual[steps - 1 :]
            errors[f"test_{steps}_steps/rmse"] = error.square().mean().sqrt().item()
    axes.set(xlabel="row", ylabel=preprocessing.target.name, title="Test rows")
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)
    return errors
