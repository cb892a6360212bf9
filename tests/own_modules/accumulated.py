"""Gradients accumulated over batches of sequences of different lengths, with a collate function."""

import lightning as L
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset


class Sequences(Dataset):
    def __init__(self, count: int, seed: int):
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(3, 9, (count,), generator=generator)
        self.rows = [torch.randn(int(length), 2, generator=generator) for length in lengths]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index], self.rows[index].sum(0)[0]


def collate(rows):
    sequences, targets = zip(*rows, strict=True)
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    return pad_sequence(sequences, batch_first=True), lengths, torch.stack(targets)


class Recurrent(L.LightningModule):
    def __init__(self, hidden: int = 8, lr: float = 0.02):
        super().__init__()
        self.save_hyperparameters()
        self.gru = nn.GRU(2, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, sequences, lengths):
        packed = pack_padded_sequence(sequences, lengths, batch_first=True, enforce_sorted=False)
        _, last = self.gru(packed)
        return self.head(last[-1]).squeeze(-1)

    def training_step(self, batch, batch_idx):
        sequences, lengths, targets = batch
        loss = nn.functional.mse_loss(self(sequences, lengths), targets)
        self.log("train_loss", loss, on_epoch=True, batch_size=len(targets))
        return loss

    def validation_step(self, batch, batch_idx):
        sequences, lengths, targets = batch
        loss = nn.functional.mse_loss(self(sequences, lengths), targets)
        self.log("val_loss", loss, batch_size=len(targets))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.8)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class SequenceData(L.LightningDataModule):
    def __init__(self, batch_size: int = 8, num_workers: int = 0):
        super().__init__()
        self.batch_size, self.num_workers = batch_size, num_workers

    def train_dataloader(self):
        rows = Sequences(100, 1)
        return DataLoader(
            rows, self.batch_size, shuffle=True, collate_fn=collate, num_workers=self.num_workers
        )

    def val_dataloader(self):
        return DataLoader(Sequences(20, 2), self.batch_size, collate_fn=collate)
