"""A regression on an endless stream of rows, divided among the workers."""

import itertools

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info


class Stream(IterableDataset):
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        info = get_worker_info()
        first, step = (info.id, info.num_workers) if info else (0, 1)
        for _ in itertools.islice(range(self.rows), first, None, step):
            x = torch.randn(4)
            yield x, x.sum().unsqueeze(0) + 0.1 * torch.randn(1)


class Regression(L.LightningModule):
    def __init__(self, width: int = 16):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, width), nn.GELU(), nn.Linear(width, 1))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.mse_loss(self(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("valid_loss", nn.functional.mse_loss(self(x), y))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)]


class StreamData(L.LightningDataModule):
    def __init__(self, num_workers: int = 1):
        super().__init__()
        self.num_workers = num_workers

    def train_dataloader(self):
        return DataLoader(Stream(96), batch_size=8, num_workers=self.num_workers)

    def val_dataloader(self):
        return DataLoader(Stream(32), batch_size=8)

    def predict_dataloader(self):
        return DataLoader([torch.ones(4) * number for number in range(5)], batch_size=2)
