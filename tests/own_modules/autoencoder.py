"""An autoencoder whose parts are arguments of the module."""

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Encoder(nn.Module):
    def __init__(self, width: int = 16):
        super().__init__()
        self.l1 = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 3))

    def forward(self, x):
        return self.l1(x)


class Decoder(nn.Module):
    def __init__(self, width: int = 16):
        super().__init__()
        self.l1 = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 64))

    def forward(self, x):
        return self.l1(x)


class LitAutoEncoder(L.LightningModule):
    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.example_input_array = torch.zeros(2, 64)

    def forward(self, x):
        return self.decoder(self.encoder(x))

    def training_step(self, batch, batch_idx):
        x = batch.view(batch.size(0), -1)
        loss = F.mse_loss(self(x), x)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x = batch.view(batch.size(0), -1)
        self.log("val_loss", F.mse_loss(self(x), x))

    def test_step(self, batch, batch_idx):
        x = batch.view(batch.size(0), -1)
        self.log("test_loss", F.mse_loss(self(x), x))

    def predict_step(self, batch, batch_idx):
        return self.encoder(batch.view(batch.size(0), -1))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Waves(Dataset):
    def __init__(self, first, last):
        self.rows = range(first, last)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        phase = torch.tensor(float(self.rows[index]))
        return torch.sin(torch.arange(64.0) / 5 + phase).view(1, 8, 8)


class WavesDataModule(L.LightningDataModule):
    def __init__(self, batch_size: int = 16):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage: str):
        self.train, self.val, self.test = Waves(0, 120), Waves(120, 150), Waves(150, 180)

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=self.batch_size)

    def test_dataloader(self):
        return DataLoader(self.test, batch_size=self.batch_size)

    def predict_dataloader(self):
        return DataLoader(self.test, batch_size=self.batch_size)
