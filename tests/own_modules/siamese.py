"""A siamese network with triplet loss: a collate function, a dataclass, the best accuracy so far."""

import random
from dataclasses import dataclass, field

import lightning.pytorch as pl
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics import Accuracy, MaxMetric, MeanMetric


@dataclass
class EncoderConfig:
    widths: list[int] = field(default_factory=lambda: [64, 32])
    dropout: float = 0.1
    embedding: int = 16


class TripletDataset(Dataset):
    def __init__(self, images, labels, train=True):
        self.images, self.labels, self.train = images, labels, train
        self.by_class = {c: np.flatnonzero(labels == c) for c in range(10)}

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        label = int(self.labels[i])
        if not self.train:
            rng = np.random.RandomState(i)
            pos, neg = rng.choice(self.by_class[label]), rng.choice(self.by_class[(label + 1) % 10])
        else:
            pos = np.random.choice(self.by_class[label])
            neg = np.random.choice(self.by_class[random.choice([c for c in range(10) if c != label])])
        return self.images[i], self.images[pos], self.images[neg], label


def collate_triplets(samples):
    anchors, positives, negatives, labels = zip(*samples, strict=True)

    def stack(arrays):
        return torch.from_numpy(np.stack(arrays)).float()

    a, p, n = stack(anchors), stack(positives), stack(negatives)
    if random.random() < 0.5:
        a = a + 0.05 * torch.randn_like(a)
    return {"anchor": a, "positive": p, "negative": n, "label": torch.tensor(labels)}


class TripletData(pl.LightningDataModule):
    def __init__(self, batch_size: int = 64, num_workers: int = 2, pin_memory: bool = False):
        super().__init__()
        self.batch_size, self.num_workers, self.pin_memory = batch_size, num_workers, pin_memory

    def setup(self, stage: str | None = None):
        x, y = load_digits(return_X_y=True)
        x = (x / 16).astype(np.float32)
        self.train = TripletDataset(x[:1200], y[:1200])
        self.val = TripletDataset(x[1200:1500], y[1200:1500], train=False)
        self.test = TripletDataset(x[1500:], y[1500:], train=False)

    def _loader(self, ds, shuffle=False):
        return DataLoader(
            ds,
            self.batch_size,
            shuffle=shuffle,
            num_workers=self.num_workers,
            collate_fn=collate_triplets,
            pin_memory=self.pin_memory,
        )

    def train_dataloader(self):
        return self._loader(self.train, True)

    def val_dataloader(self):
        return self._loader(self.val)

    def test_dataloader(self):
        return self._loader(self.test)

    def predict_dataloader(self):
        return self._loader(self.test)


class Siamese(pl.LightningModule):
    def __init__(self, encoder: EncoderConfig | None = None, margin: float = 1.0, lr: float = 1e-3):
        super().__init__()
        self.save_hyperparameters()
        encoder = encoder or EncoderConfig()
        layers, last = [], 64
        for width in encoder.widths:
            layers += [nn.Linear(last, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(encoder.dropout)]
            last = width
        self.encoder = nn.Sequential(*layers, nn.Linear(last, encoder.embedding))
        self.loss = nn.TripletMarginLoss(margin=margin)
        self.val_acc = Accuracy(task="binary")
        self.train_loss_mean = MeanMetric()
        self.val_acc_best = MaxMetric()
        self.margin = margin
        self.patience = 0

    def forward(self, x):
        return nn.functional.normalize(self.encoder(x), dim=-1)

    def _loss(self, batch):
        a, p, n = (self(batch[k]) for k in ("anchor", "positive", "negative"))
        d_p, d_n = (a - p).norm(dim=-1), (a - n).norm(dim=-1)
        return torch.relu(d_p - d_n + self.margin).mean(), (d_p < d_n)

    def on_train_start(self):
        self.val_acc_best.reset()

    def training_step(self, batch, batch_idx):
        loss, _ = self._loss(batch)
        self.train_loss_mean(loss)
        self.log("train/loss", self.train_loss_mean, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        loss, closer = self._loss(batch)
        self.val_acc(closer.int(), torch.ones_like(closer.int()))
        self.log("val/loss", loss)
        self.log("val/acc", self.val_acc)

    def on_validation_epoch_end(self):
        acc = self.val_acc.compute()
        before = self.val_acc_best.compute() if self.val_acc_best.update_called else torch.tensor(-1.0)
        self.val_acc_best(acc)
        self.patience = 0 if acc > before else self.patience + 1
        if self.patience >= 2:  # make it harder
            self.margin *= 1.1
            self.patience = 0
        self.log("val/acc_best", self.val_acc_best.compute(), sync_dist=True)
        self.log("margin", self.margin)

    def test_step(self, batch, batch_idx):
        loss, closer = self._loss(batch)
        self.log("test/loss", loss)
        self.log("test/acc", closer.float().mean(), batch_size=len(closer))

    def predict_step(self, batch, batch_idx):
        return self(batch["anchor"]), batch["label"]

    def configure_optimizers(self):
        opt = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        return {
            "optimizer": opt,
            "lr_scheduler": {
                "scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau(
                    opt, mode="max", patience=1, factor=0.5
                ),
                "monitor": "val/acc",
            },
        }
