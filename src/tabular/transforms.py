"""What is learnt of a column of numbers: the replacement of missing ones, a transform, center and scale.

scikit-learn is imported by the functions that learn: it takes most of a second, and predict needs none of it.
"""

from typing import Any

import numpy as np

from src.tabular.rules import Numbers, Rules, Scale, Transform

# each scaler of scikit-learn, and the name of its attribute that holds the value which becomes 0
SCALERS = {
    "standard": ("StandardScaler", "mean_"),
    "minmax": ("MinMaxScaler", "data_min_"),
    "robust": ("RobustScaler", "center_"),
}
HEAVY_TAIL = 0.75  # `transform: auto` is log1p for numbers of at least 0 beyond this skewness
QUANTILES = 101  # of `transform: quantile`


def learn_fill(values: Numbers, rules: Rules) -> float | None:
    """The number that replaces a missing one, which `values` (rows,) have from then on."""
    if rules.impute == "drop":
        return None
    from sklearn.impute import SimpleImputer

    imputer = SimpleImputer(strategy=rules.impute, fill_value=rules.impute_constant, copy=False)
    fill = float(imputer.fit(values[:, np.newaxis]).statistics_[0])
    values[np.isnan(values)] = fill
    return fill


def learn_transform(present: Numbers, transform: Transform) -> dict[str, Any]:
    """The arguments of `NumericColumn` for a transform, from the values that are not missing (rows,)."""
    if transform == "auto":
        transform = "log1p" if present.min() >= 0 and skewness(present) > HEAVY_TAIL else "none"
    if transform == "yeo_johnson" and present.min() < present.max():
        from sklearn.preprocessing import PowerTransformer

        fitted = PowerTransformer(standardize=False).fit(present[:, np.newaxis])
        return {"transform": transform, "power": float(fitted.lambdas_[0])}
    if transform == "quantile":
        from scipy.special import ndtri

        count = min(QUANTILES, len(present))
        ranks = (np.arange(count) + 0.5) / count
        found = np.quantile(present, np.linspace(0, 1, count))
        distinct, places = np.unique(found, return_inverse=True)
        mean_ranks = np.bincount(places, ranks) / np.bincount(places)  # equal quantiles share their mean rank
        return {"transform": transform, "quantiles": distinct.tolist(), "scores": ndtri(mean_ranks).tolist()}
    return {"transform": transform}


def learn_scale(values: Numbers, scale: Scale) -> tuple[float, float]:
    """The center and the scale of numbers (rows,)."""
    if scale == "none":
        return 0.0, 1.0
    from sklearn import preprocessing

    scaler_name, center_name = SCALERS[scale]
    table = values[:, np.newaxis]
    scaler = getattr(preprocessing, scaler_name)().fit(table)
    center = float(getattr(scaler, center_name)[0])
    if scale == "minmax":  # scikit-learn multiplies by this one, and divides by the others
        return center, float(1 / scaler.scale_[0])
    if scale == "robust" and np.ptp(np.percentile(values, (25, 75))) == 0:
        # more than half of the numbers are the same, and the others may be far away
        return center, float(preprocessing.StandardScaler().fit(table).scale_[0])
    return center, float(scaler.scale_[0])


def skewness(values: Numbers) -> float:
    """The third standardized moment of numbers (rows,); 0 if all are the same."""
    deviation = values - values.mean()
    spread = float(np.sqrt((deviation**2).mean()))
    return float(((deviation / spread) ** 3).mean()) if spread else 0.0


def yeo_johnson(values: Numbers, power: float) -> Numbers:
    """Yeo and Johnson's transform of numbers (rows,) (Biometrika 2000)."""
    size = np.log1p(np.abs(values))
    exponent = np.where(values < 0, 2 - power, power)
    with np.errstate(invalid="ignore"):
        raised = np.expm1(exponent * size) / exponent
    return np.copysign(np.where(exponent == 0, size, raised), values)


def yeo_johnson_inverse(values: Numbers, power: float) -> Numbers:
    """The numbers of which `yeo_johnson` is `values` (rows,)."""
    size = np.abs(values)
    exponent = np.where(values < 0, 2 - power, power)
    with np.errstate(invalid="ignore", divide="ignore"):
        logarithm = np.log1p(exponent * size) / exponent
    return np.copysign(np.expm1(np.where(exponent == 0, size, logarithm)), values)
