"""Which end of a metric is best."""

import re

LOWER_IS_BETTER = re.compile(r"loss|error|mse|mae|nll|perplexity", re.IGNORECASE)
HIGHER_IS_BETTER = re.compile(
    r"acc|f1|auc|auroc|r2|recall|precision|specificity|sensitivity|kappa|matthews|mcc|corr|iou|jaccard|dice|psnr|ssim|"
    r"bleu|rouge|ndcg|mrr|reward|all_right",
    re.IGNORECASE,
)


def higher_is_better(metric: str) -> bool:
    """Whether higher values of a metric are better, by its name: of accuracies, F1 and the like.

    Losses and errors are not, such as `dice_loss`.
    """
    return not LOWER_IS_BETTER.search(metric) and HIGHER_IS_BETTER.search(metric) is not None
