"""Linear models: their weights in the units of the columns, and linear separability.

B batch, F features
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linprog
from sklearn.linear_model import LinearRegression
from torch import Tensor, nn

from src.tabular.data import Splits
from src.tabular.model import TabularModel
from src.tabular.number_columns import NumericColumn
from src.tabular.preprocessing import Preprocessing

Numbers = NDArray[np.floating]


def linear_layer(network: nn.Module) -> nn.Linear | None:
    """The layer of a network that consists of one linear layer; None for other networks."""
    layers = list(network) if isinstance(network, nn.Sequential) else [network]
    return layers[0] if len(layers) == 1 and isinstance(layers[0], nn.Linear) else None


def raw_values(features: Tensor, columns: list[NumericColumn]) -> Numbers:
    """Convert features (B, F) to the units of the columns (B, F)."""
    scale = np.array([column.scale for column in columns])
    center = np.array([column.center for column in columns])
    return features.numpy().astype(float) * scale + center


def weights_table(model: TabularModel, splits: Splits, preprocessing: Preprocessing) -> pd.DataFrame | None:
    """The weights of a linear model, those of least squares and, if known, the true ones.

    Returns:
        One row per column and one for the bias, in the units of the columns and the target. None for other
        networks, for classes, for a logarithm of the target, for several targets, and for columns that are
        not linear.
    """
    target, layer, columns = preprocessing.target, linear_layer(model.network), preprocessing.numeric
    if layer is None or target.classes is not None or target.log or len(preprocessing.targets) > 1:
        return None
    if not preprocessing.is_linear:
        return None
    scale = np.array([column.scale for column in columns])
    center = np.array([column.center for column in columns])
    weight = layer.weight.detach().numpy()[0] * target.scale / scale  # (F,)
    learnt_bias = 0.0 if layer.bias is None else layer.bias.item()
    bias = learnt_bias * target.scale + target.center - weight @ center
    features, values = splits["train"]
    squares = LinearRegression().fit(raw_values(features, columns), model.predict(values).numpy())
    table = pd.DataFrame(
        {"learnt": [*weight, bias], "least squares": [*squares.coef_, squares.intercept_]},
        index=[*(column.name for column in columns), "bias"],
    )
    if preprocessing.truth:
        table["truth"] = [preprocessing.truth.get(name, 0.0) for name in table.index]
    return table


def separable(features: Tensor, target: Tensor) -> bool:
    """Whether a hyperplane separates two classes.

    A linear program without an objective: is there a w with sign (w x + b) >= 1 for every point?

    Args:
        features: (B, F).
        target: (B,), classes 0 and 1.
    """
    points = np.hstack([features.numpy().astype(float), np.ones((len(features), 1))])  # (B, F + 1)
    sign = 2.0 * target.numpy()[:, np.newaxis] - 1
    bounds = -np.ones(len(points))
    answer = linprog(np.zeros(points.shape[1]), A_ub=-sign * points, b_ub=bounds, bounds=(None, None))
    return bool(answer.status == 0)
