import pytest

from src.core.scores import higher_is_better


@pytest.mark.parametrize(
    "name",
    ["val_acc", "test/accuracy", "valAcc5", "macro_f1", "val/AUROC", "r2", "dice", "ssim", "spearman_corr"],
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
        "x",
    ],
)
def test_less_is_better(name: str) -> None:
    assert not higher_is_better(name)
