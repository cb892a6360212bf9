import pytest

from src.core.scores import higher_is_better, of_validation


@pytest.mark.parametrize(
    "name",
    [
        *("val_acc", "test/accuracy", "valAcc5", "macro_f1", "val/AUROC", "r2", "dice", "ssim", "ms_ssim"),
        *("spearman_corr", "val_map", "val/mAP", "map_50", "val/ap", "hits@10", "test_fbeta", "si_sdr"),
        *("explained_variance", "episode_return", "cosine_similarity", "elbo"),
    ],
)
def test_more_is_better(name: str) -> None:
    assert higher_is_better(name)


@pytest.mark.parametrize(
    "name",
    [
        "val_loss",
        "val_dice_loss",
        "ssim_loss",
        "f1_loss",
        "accumulated_error",
        "corrected_loss",
        "rmse",
        "mae",
        "mape",
        "smape",
        "brier_score",
        "val_score",
        "val_neg_elbo",
        "gap",
        "dissimilarity",
        "x",
    ],
)
def test_less_is_better(name: str) -> None:
    assert not higher_is_better(name)


@pytest.mark.parametrize(
    "name", ["val_loss", "val/map", "loss/val", "valid_acc", "validation/rmse", "valAcc5", "eval_loss"]
)
def test_metrics_of_the_validation(name: str) -> None:
    assert of_validation(name)


@pytest.mark.parametrize("name", ["train/value_loss", "train/retrieval_acc", "interval", "loss"])
def test_other_metrics(name: str) -> None:
    assert not of_validation(name)
