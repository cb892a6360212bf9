"""What a training shows of its progress where there is no terminal."""

from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer

from src.training import progress
from src.training.progress import ProgressLines


class Module(LightningModule):
    """Logs its loss, and takes 25 s for a step by a clock of its own."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self.clock = clock
        self.weight = torch.nn.Parameter(torch.ones(1))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.clock[0] += 25
        loss = self.weight.sum() * 0.5
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0)


@pytest.mark.parametrize(
    ("limit", "total"), [({"max_epochs": 2}, " of 8"), ({"max_epochs": -1, "max_time": "00:00:03:00"}, "")]
)
def test_a_line_a_minute(
    limit: dict[str, Any], total: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[ProgressLines("validation/accuracy")],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **limit,
    )
    trainer.fit(Module(clock), train_dataloaders=torch.utils.data.DataLoader([0, 1, 2, 3]))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert lines == [f"epoch 1, step 3{total}", f"epoch 2, step 6{total}, train/loss 0.5"]
