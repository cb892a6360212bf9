"""Rare classes drawn more often, and augmentation in workers by torch, NumPy and Python."""

import random

import lightning as L
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler


class Signals(Dataset):
    def __init__(self, count, seed, augment):
        generator = np.random.default_rng(seed)
        self.labels = (generator.random(count) < 0.2).astype(int)
        self.signals = (generator.normal(size=(count, 32)) + self.labels[:, None]).astype("float32")
        self.augment = augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        signal = self.signals[index].copy()
        if self.augment:
            signal = np.roll(signal, np.random.randint(0, 32))
            if random.random() < 0.5:
                signal = signal[::-1].copy()
        signal = torch.from_numpy(signal)
        if self.augment:
            signal = signal + 0.1 * torch.randn(32)
        return {"signal": signal, "label": int(self.labels[index])}


class SignalModel(L.LightningModule):
    def __init__(self, channels: int = 4, lr: float = 0.01):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv1d(1, channels, 5, padding=2),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(4),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(4 * channels, 2),
        )

    def forward(self, signal):
        return self.net(signal[:, None])

    def step(self, batch, name):
        loss = nn.functional.cross_entropy(self(batch["signal"]), batch["label"])
        self.log(f"{name}_loss", loss, batch_size=len(batch["label"]))
        return loss

    def training_step(self, batch, batch_idx):
        return self.step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.step(batch, "val")

    def test_step(self, batch, batch_idx):
        self.step(batch, "test")

    def predict_step(self, batch, batch_idx):
        logits = self(batch["signal"])
        return {"label": logits.argmax(-1), "probability": logits.softmax(-1)}

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}


class SignalData(L.LightningDataModule):
    def __init__(self, num_workers: int = 2):
        super().__init__()
        self.num_workers = num_workers

    def setup(self, stage):
        self.train = Signals(128, 1, augment=True)
        self.val, self.test = Signals(32, 2, augment=False), Signals(32, 3, augment=False)

    def train_dataloader(self):
        weights = np.where(self.train.labels == 1, 4.0, 1.0)
        sampler = WeightedRandomSampler(weights, len(weights))
        return DataLoader(self.train, 16, sampler=sampler, num_workers=self.num_workers)

    def val_dataloader(self):
        return DataLoader(self.val, 16)

    def test_dataloader(self):
        return DataLoader(self.test, 16)

    def predict_dataloader(self):
        return DataLoader(self.test, 16)
