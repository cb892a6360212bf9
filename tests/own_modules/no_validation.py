"""A model that nothing validates or tests: an embedding of words by their neighbours."""

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class SkipGram(L.LightningModule):
    def __init__(self, words: int = 20, dim: int = 4, negatives: int = 5):
        super().__init__()
        self.save_hyperparameters()
        self.inner, self.outer = nn.Embedding(words, dim), nn.Embedding(words, dim)

    def training_step(self, batch, batch_idx):
        centre, context = batch
        noise = torch.randint(self.hparams.words, (len(centre), self.hparams.negatives), device=self.device)
        vectors = self.inner(centre)
        near = (vectors * self.outer(context)).sum(-1)
        far = torch.einsum("bd,bnd->bn", vectors, self.outer(noise))
        loss = -(nn.functional.logsigmoid(near) + nn.functional.logsigmoid(-far).sum(-1)).mean()
        self.log("train_loss", loss, prog_bar=True, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adagrad(self.parameters(), lr=0.1)

    def train_dataloader(self):
        centre = torch.arange(200) % self.hparams.words
        return DataLoader(TensorDataset(centre, (centre + 1) % self.hparams.words), 20, shuffle=True)
