"""A small language model: a Transformer that predicts the next character."""

import math

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

TEXT = "the quick brown fox jumps over the lazy dog. pack my box with five dozen liquor jugs. " * 6


class Characters(Dataset):
    def __init__(self, block_size: int = 12):
        self.vocabulary = sorted(set(TEXT))
        codes = {character: code for code, character in enumerate(self.vocabulary)}
        self.data = torch.tensor([codes[character] for character in TEXT])
        self.block_size = block_size

    def __len__(self):
        return (len(self.data) - 1) // self.block_size

    def __getitem__(self, index):
        start = index * self.block_size
        end = start + self.block_size
        return self.data[start:end], self.data[start + 1 : end + 1]


class PositionalEncoding(nn.Module):
    def __init__(self, dim, max_len=100):
        super().__init__()
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
        pe = torch.zeros(max_len, dim)
        pe[:, 0::2] = torch.sin(position * div_term)
        pe[:, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe, persistent=False)

    def forward(self, x):
        return x + self.pe[: x.size(1)]


class LanguageModel(L.LightningModule):
    def __init__(self, vocab_size: int = 29, dim: int = 16, heads: int = 2, layers: int = 1):
        super().__init__()
        self.save_hyperparameters()
        self.embedding = nn.Embedding(vocab_size, dim)
        self.position = PositionalEncoding(dim)
        layer = nn.TransformerEncoderLayer(dim, heads, 4 * dim, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.decoder = nn.Linear(dim, vocab_size, bias=False)
        self.decoder.weight = self.embedding.weight
        self.example_input_array = torch.zeros(2, 12, dtype=torch.long)

    def forward(self, inputs):
        mask = nn.Transformer.generate_square_subsequent_mask(inputs.size(1), device=inputs.device)
        hidden = self.encoder(self.position(self.embedding(inputs)), mask=mask, is_causal=True)
        return self.decoder(hidden)

    def _loss(self, batch):
        inputs, targets = batch
        return F.cross_entropy(self(inputs).flatten(0, 1), targets.flatten())

    def training_step(self, batch, batch_idx):
        loss = self._loss(batch)
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        loss = self._loss(batch)
        self.log_dict({"val/loss": loss, "val/perplexity": loss.exp()})

    def test_step(self, batch, batch_idx):
        loss = self._loss(batch)
        self.log("test/loss", loss)

    def predict_step(self, batch, batch_idx):
        return self(batch[0])[:, -1].argmax(-1)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=1e-2, total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class CharactersDataModule(L.LightningDataModule):
    def __init__(self, batch_size: int = 8, num_workers: int = 0):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage):
        dataset = Characters()
        sizes = [len(dataset) - 12, 6, 6]
        self.splits = torch.utils.data.random_split(
            dataset, sizes, generator=torch.Generator().manual_seed(5)
        )

    def _loader(self, part, **options):
        return DataLoader(part, self.hparams.batch_size, num_workers=self.hparams.num_workers, **options)

    def train_dataloader(self):
        return self._loader(self.splits[0], shuffle=True, drop_last=True)

    def val_dataloader(self):
        return self._loader(self.splits[1])

    def test_dataloader(self):
        return self._loader(self.splits[2])

    def predict_dataloader(self):
        return self._loader(self.splits[2])
