"""Models of scikit-learn that a model of a table is compared with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from torch import Tensor

from src.tabular.model import TabularModel
from src.tabular.preprocessing import Target

CELLS = 10_000_000  # of the training rows times the trees of a round of boosting: about 20 s
ROWS_AT_ONCE = 8192


def trees_of_round(targets: Sequence[Target]) -> int:
    """The number of trees of a round of boosting: one a target, and of more than two classes one a class."""
    classes = len(targets[0].classes or ())
    return max(len(targets), classes if classes > 2 else 1)


def sampled_rows(rows: int, features: int, trees: int = 1) -> NDArray[np.int64] | None:
    """The training rows of the baselines, in increasing order; None for all of them.

    Args:
        rows: of the training.
        features: of a row.
        trees: of a round of boosting.
    """
    most = CELLS // (features * trees)
    if rows <= most:
        return None
    return np.sort(np.random.default_rng(0).choice(rows, most, replace=False))


def baseline_outputs(
    model: TabularModel, features: Tensor, target: Tensor, test: Tensor
) -> dict[str, Tensor]:
    """Predict the test rows by scikit-learn's models, fitted on training rows.

    Args:
        model: with the target and the loss.
        features: of training rows (rows, F).
        target: prepared, of these rows.
        test: features of the test rows (B, F).

    Returns:
        (B, O) by name, with the meaning of the outputs of the network: the transformed target, or logits.
    """
    # with scikit-learn's 20 rows a leaf, a tree of less than 40 rows has no split
    leaf = min(20, max(1, len(features) // 3))
    if model.target.classes is None:
        wanted = target.numpy().T  # (T, rows)
        quantile = {"loss": "quantile", "quantile": model.quantile} if model.loss == "quantile" else {}
        regressors: dict[str, Any] = {
            "ridge": RidgeCV(alphas=np.logspace(-2, 4, 13)),
            "boosting": HistGradientBoostingRegressor(min_samples_leaf=leaf, random_state=0, **quantile),
        }
        outputs = {}
        for name, regressor in regressors.items():
            columns = [_in_parts(regressor.fit(features.numpy(), column).predict, test) for column in wanted]
            outputs[name] = torch.from_numpy(np.stack(columns, axis=1)).float()
        return outputs
    classifiers: dict[str, Any] = {
        "logistic": LogisticRegression(max_iter=1000),
        "boosting": HistGradientBoostingClassifier(min_samples_leaf=leaf, random_state=0),
    }
    return {
        name: torch.cat(
            [
                log_odds(model, _probabilities(classifier, one, features, codes, test))
                for one, (codes,) in model.by_target(target)
            ],
            dim=1,
        )
        for name, classifier in classifiers.items()
    }


def _probabilities(
    classifier: Any, target: Target, features: Tensor, codes: Tensor, test: Tensor
) -> NDArray[np.floating]:
    """Fit a classifier to the classes (rows,) of a target; its probabilities (B, C) for the test rows."""
    probabilities = np.zeros((len(test), len(target.classes or ())))
    if len(codes.unique()) == 1:  # of a sample
        probabilities[:, codes[0]] = 1
        return probabilities
    if hasattr(classifier, "early_stopping"):  # which splits by class, for many rows
        alone = bool((codes.unique(return_counts=True)[1] < 2).any())
        classifier.set_params(early_stopping=False if alone else "auto")
    classifier.fit(features.numpy(), codes.numpy())
    # a class may have no row in a sample
    probabilities[:, classifier.classes_] = _in_parts(classifier.predict_proba, test)
    return probabilities


def log_odds(model: TabularModel, probabilities: NDArray[np.floating]) -> Tensor:
    """Probabilities (B, C) as outputs (B, O) of a model: logits, or of one output the log-odds of class 1."""
    logits = torch.from_numpy(probabilities).float().clamp(min=1e-12).log()  # (B, C)
    return logits if model.loss == "cross_entropy" else logits[:, 1:] - logits[:, :1]


def _in_parts(predict: Any, features: Tensor) -> NDArray[Any]:
    """What a model predicts for features (B, F): it copies them as float64."""
    return np.concatenate([predict(part.numpy()) for part in features.split(ROWS_AT_ONCE)])
