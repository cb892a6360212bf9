"""An LSTM on windows of a series: a dataclass, several validation loaders, state in checkpoints."""

from dataclasses import dataclass

import lightning as L
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection


@dataclass
class ForecasterConfig:
    window: int = 24
    horizon: int = 4
    hidden: int = 16
    num_layers: int = 2
    dropout: float = 0.1
    lr: float = 1e-2
    teacher_forcing: float = 0.9


class WindowDataset(Dataset):
    def __init__(self, series, window, horizon):
        self.series = torch.as_tensor(series, dtype=torch.float32)
        self.window, self.horizon = window, horizon

    def __len__(self):
        return len(self.series) - self.window - self.horizon + 1

    def __getitem__(self, i):
        x = self.series[i : i + self.window].unsqueeze(-1)
        y = self.series[i + self.window : i + self.window + self.horizon]
        return x, y


class SeriesDataModule(L.LightningDataModule):
    def __init__(self, window: int = 24, horizon: int = 4, batch_size: int = 32, length: int = 600):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        rng = np.random.default_rng(0)
        t = np.arange(self.hparams.length)
        series = np.sin(t / 6) + 0.3 * np.sin(t / 17) + 0.05 * rng.normal(size=len(t))
        a, b = int(0.6 * len(t)), int(0.8 * len(t))
        self.mean, self.std = series[:a].mean(), series[:a].std()
        z = (series - self.mean) / self.std

        def make(part):
            return WindowDataset(part, self.hparams.window, self.hparams.horizon)

        self.train_set, self.val_set, self.test_set = make(z[:a]), make(z[a:b]), make(z[b:])
        self.shifted_set = make(z[a:b] + 0.5)

    def train_dataloader(self):
        return DataLoader(self.train_set, self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return [
            DataLoader(self.val_set, self.hparams.batch_size),
            DataLoader(self.shifted_set, self.hparams.batch_size),
        ]

    def test_dataloader(self):
        return [
            DataLoader(self.test_set, self.hparams.batch_size),
            DataLoader(self.shifted_set, self.hparams.batch_size),
        ]

    def predict_dataloader(self):
        return DataLoader(self.test_set, self.hparams.batch_size)


class Forecaster(L.LightningModule):
    def __init__(self, config: ForecasterConfig = ForecasterConfig()):  # noqa: B008
        super().__init__()
        self.save_hyperparameters()
        self.config = config
        self.lstm = None
        metrics = MetricCollection({"mae": MeanAbsoluteError(), "rmse": MeanSquaredError(squared=False)})
        self.train_metrics = metrics.clone(prefix="train_")
        self.val_metrics = nn.ModuleList([metrics.clone(prefix=f"val_{k}_") for k in ("plain", "shifted")])
        self.test_metrics = metrics.clone(prefix="test_")
        self.loss_weights = None
        self.history = {}

    def configure_model(self):
        if self.lstm is not None:
            return
        c = self.config
        self.lstm = nn.LSTM(1, c.hidden, c.num_layers, batch_first=True, dropout=c.dropout)
        self.head = nn.Linear(c.hidden, c.horizon)

    def on_fit_start(self):
        self.loss_weights = torch.linspace(1, 0.5, self.config.horizon, device=self.device)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.head(out[:, -1])

    def training_step(self, batch, batch_idx):
        x, y = batch
        y_hat = self(x)
        loss = (self.loss_weights * (y_hat - y) ** 2).mean()
        # boost what was difficult in the epoch before
        loss = loss * (1 + 0.1 * self.history.get("difficulty", 0.0))
        self.log("train_loss", loss, prog_bar=True)
        self.log_dict(self.train_metrics(y_hat, y), on_step=False, on_epoch=True)
        return loss

    def on_validation_epoch_start(self):
        self._losses = []

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        x, y = batch
        y_hat = self(x)
        loss = nn.functional.mse_loss(y_hat, y)
        self._losses.append(loss)
        self.log("val_loss", loss)
        self.val_metrics[dataloader_idx].update(y_hat, y)

    def on_validation_epoch_end(self):
        for m in self.val_metrics:
            self.log_dict(m.compute())
            m.reset()
        if not self.trainer.sanity_checking:
            self.history["difficulty"] = float(torch.stack(self._losses).mean())
        self.log("val_total", torch.stack(self._losses).mean())

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        x, y = batch
        self.test_metrics.update(self(x), y)
        self.log("test_loss", nn.functional.mse_loss(self(x), y), add_dataloader_idx=True)

    def on_test_epoch_end(self):
        self.log_dict(self.test_metrics.compute())
        self.test_metrics.reset()

    def predict_step(self, batch, batch_idx):
        x, y = batch
        return {"forecast": self(x), "last_value": x[:, -1, 0], "error": (self(x) - y).abs().mean(dim=1)}

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.config.lr)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5),
                "monitor": "val_total",
                "interval": "epoch",
                "frequency": 1,
            },
        }

    def on_save_checkpoint(self, checkpoint):
        checkpoint["scaler"] = {"mean": self.trainer.datamodule.mean, "std": self.trainer.datamodule.std}

    def on_load_checkpoint(self, checkpoint):
        self.scaler = checkpoint["scaler"]
