"""Which end of a metric is best."""

import re

HIGHER_IS_BETTER = re.compile(
    r"acc|f1|auc|r2|recall|precision|specificity|sensitivity|kappa|matthews|mcc|corr|iou|jaccard|dice|psnr|ssim|"
    r"bleu|rouge|ndcg|mrr|reward|all_right",
    re.IGNORECASE,
)


def higher_is_better(metric: str) -> bool:
    """Whether higher values of a metric are better, by its name: of accuracies, F1 and the like."""
    return HIGHER_IS_BETTER.search(metric) is not None
