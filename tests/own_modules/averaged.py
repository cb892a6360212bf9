"""Metrics that keep a state over the batches, and a moving average of the weights for the validation."""

import lightning as L
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC, BinaryF1Score


class Averaged(L.LightningModule):
    def __init__(self, decay: float = 0.9, lr: float = 0.05):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 1))
        self.ema = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(decay))
        metrics = MetricCollection([BinaryAccuracy(), BinaryF1Score(), BinaryAUROC()])
        self.train_metrics = metrics.clone(prefix="train/")
        self.val_metrics = metrics.clone(prefix="val/")
        self.test_metrics = metrics.clone(prefix="test/")
        self.running = MeanMetric()

    def forward(self, x):
        return self.ema(x).squeeze(-1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self.net(x).squeeze(-1)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, y.float())
        self.running.update(loss)
        self.train_metrics.update(logits.sigmoid(), y)
        return loss

    def on_before_zero_grad(self, optimizer):
        self.ema.update_parameters(self.net)

    def on_train_epoch_end(self):
        self.log("train/running_loss", self.running.compute())
        self.running.reset()
        self.log_dict(self.train_metrics.compute())
        self.train_metrics.reset()

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.val_metrics.update(self(x).sigmoid(), y)

    def on_validation_epoch_end(self):
        self.log_dict(self.val_metrics.compute())
        self.val_metrics.reset()

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.test_metrics(self(x).sigmoid(), y)
        self.log_dict(self.test_metrics, on_step=False, on_epoch=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9, nesterov=True)


class Rows(L.LightningDataModule):
    def setup(self, stage):
        generator = torch.Generator().manual_seed(6)
        x = torch.randn(120, 5, generator=generator)
        y = (x[:, 0] * x[:, 1] + x[:, 2] > 0).long()
        self.parts = [TensorDataset(x[a:b], y[a:b]) for a, b in ((0, 80), (80, 100), (100, 120))]

    def train_dataloader(self):
        return DataLoader(self.parts[0], batch_size=8, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.parts[1], batch_size=8)

    def test_dataloader(self):
        return DataLoader(self.parts[2], batch_size=8)

    def predict_dataloader(self):
        return DataLoader(self.parts[2].tensors[0], batch_size=8)
