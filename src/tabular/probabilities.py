"""What the probabilities of a model mean: reliability, precision and recall, and what each threshold answers.

B rows, C classes
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve
from torch import Tensor

from src.reporting.figures import save_figure
from src.reporting.reliability import plot_reliability
from src.reporting.tables import markdown_table
from src.tabular.model import TabularModel
from src.training.metrics import CALIBRATION_BINS

Numbers = NDArray[np.floating]

THRESHOLDS = np.arange(1, 10) / 10


def plot_precision_recall(probability: Numbers, wanted: Any, name: str, at: float, path: Path) -> None:
    """Plot precision over recall of a class for all thresholds.

    Args:
        probability: of the class (B,).
        wanted: whether a row is of the class (B,).
        name: of the class.
        at: the probability from which on the model answers it.
        path: of the figure.
    """
    precision, recall, _ = precision_recall_curve(wanted, probability)
    figure = Figure(figsize=(5.2, 5), layout="constrained")
    axes = figure.subplots()
    axes.step(recall, precision, where="post")
    axes.axhline(wanted.mean(), color="grey", linewidth=1, label="trivial answer")
    row = _threshold_row(probability, wanted, at)
    if row["precision"] is not None:
        axes.plot(row["recall"], row["precision"], "o", color="black", label=f"threshold {at:.3g}")
    axes.set(xlabel=f"recall of {name}", ylabel=f"precision of {name}", title="Test rows")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


def _threshold_row(probability: Numbers, wanted: Any, threshold: float) -> dict[str, Any]:
    answered = probability >= threshold
    hits = int((answered & wanted).sum())
    return {
        "answered": int(answered.sum()),
        "precision": hits / answered.sum() if answered.any() else None,
        "recall": hits / wanted.sum(),
        "alarms": int((answered & ~wanted).sum()),
        "missed": int((~answered & wanted).sum()),
    }


def thresholds_table(probability: Numbers, wanted: Any, name: str, at: float) -> str:
    """What each threshold of a class answers, as Markdown; the one of the model is marked."""
    rows = []
    for threshold in sorted({*THRESHOLDS.tolist(), at}):
        row = _threshold_row(probability, wanted, threshold)
        mark = f"{threshold:.3g} (this model)" if threshold == at else f"{threshold:.3g}"
        precision = "" if row["precision"] is None else f"{row['precision']:.3f}"
        counts = [str(row[key]) for key in ("answered", "alarms", "missed")]
        rows.append([mark, precision, f"{row['recall']:.3f}", *counts])
    text = (
        f"The answer is {name} where its probability is at least the threshold; "
        f"{int(wanted.sum())} of {len(wanted)} test rows are {name}.\n\n"
    )
    headings = [f"answered {name}", "false alarms", "missed"]
    return text + markdown_table(["threshold", "precision", "recall", *headings], rows)


def write_probabilities(
    model: TabularModel, probabilities: Tensor, target: Tensor, rare: int | None, plots: Path, tables: Path
) -> None:
    """Write reliability.png and, of two classes, precision_recall.png and thresholds.md.

    Args:
        model: trained.
        probabilities: of the test rows (B, C).
        target: classes (B,).
        rare: of two classes the one that is looked for.
        plots: folder of the pictures.
        tables: folder of the tables.
    """
    plot_reliability(probabilities, target, CALIBRATION_BINS, plots / "reliability.png")
    wanted = target.numpy() == rare
    if rare is None or model.target.classes is None or not wanted.any():
        return
    name, probability = model.target.classes[rare], probabilities[:, rare].double().numpy()
    at = 0.5
    if model.threshold is not None:
        own = float(model.threshold)
        at = own if model.threshold_class == rare else 1 - own
    plot_precision_recall(probability, wanted, name, at, plots / "precision_recall.png")
    (tables / "thresholds.md").write_text(thresholds_table(probability, wanted, name, at), encoding="utf-8")
