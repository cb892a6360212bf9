"""Which end of a metric is best, and which metric chooses the epoch."""

import re
from collections.abc import Iterable
from typing import Any

USUAL_MONITORS = ("validation/loss", "val_loss", "val/loss", "valid_loss", "validation_loss")

LOWER_IS_BETTER = re.compile(r"loss|error|mse|mae|nll|perplexity|neg(ative)?_?elbo|nelbo", re.IGNORECASE)
HIGHER_IS_BETTER = re.compile(
    r"acc|f1|f_?beta|auc|auroc|r2|recall|precision|specificity|sensitivity|kappa|matthews|mcc|corr|iou|jaccard|dice|"
    r"psnr|ssim(?!il)|s[dn]r|bleu|rouge|ndcg|mrr|reward|return|all_right|exact_match|pearson|spearman|kendall|"
    r"explained_variance|(?<!dis)similarity|elbo|(?<![a-z])(m?ap|hits?)(?![a-z])",
    re.IGNORECASE,
)
OF_VALIDATION = re.compile(r"(^|[/_-])(val|valid|validation|eval)([/_-]|$)|^val(?!ue)", re.IGNORECASE)


def higher_is_better(metric: str) -> bool:
    """Whether higher values of a metric are better, by its name: of accuracies, F1 and the like.

    Losses and errors are not, such as `dice_loss`.
    """
    return not LOWER_IS_BETTER.search(metric) and HIGHER_IS_BETTER.search(metric) is not None


def of_validation(metric: str) -> bool:
    """Whether a metric is one of the validation, by its name, such as `val_loss` or `loss/val`."""
    return OF_VALIDATION.search(metric) is not None


def chosen_by(configuration: dict[str, Any], logged: Iterable[str]) -> tuple[str | None, str]:
    """The metric that decides which epoch is kept, and whether its min or its max is best.

    Args:
        configuration: of a training; its keys `monitor` and `mode` may be None.
        logged: the names of the metrics of an epoch.

    Returns:
        Without a monitor the first of USUAL_MONITORS that is logged; None for the last epoch.
    """
    names = set(logged)
    monitor = configuration.get("monitor") or next((name for name in USUAL_MONITORS if name in names), None)
    mode = configuration.get("mode") or ("max" if higher_is_better(monitor or "") else "min")
    return monitor, mode
