"""Which component wrote a log line: hashed trigrams, dictionaries as batches, predictions that are texts."""

import random
import zlib

import pytorch_lightning as pl
import torch
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

LABELS = ["disk", "net", "db"]
LINES = {
    "disk": ["sector {} unreadable on sda{}", "write error, block {} of disk {}"],
    "net": ["link eth{} down after {} ms", "packet loss {} percent on eth{}"],
    "db": ["slow query, {} ms, table t{}", "deadlock between {} and {}"],
}


class Lines(IterableDataset):
    def __init__(self, part, number, noise=0.0):
        self.part, self.number, self.noise = part, number, noise

    def __iter__(self):
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        source = random.Random(self.part)
        pool = []
        for row in range(self.number):
            label = source.choice(LABELS)
            text = source.choice(LINES[label]).format(source.randrange(99), source.randrange(99))
            if row % workers != worker:
                continue
            words = [word for word in text.split() if random.random() >= self.noise] or [text]
            pool.append((" ".join(words), LABELS.index(label)))
            if self.noise and len(pool) > 16:  # shuffled within a buffer
                yield pool.pop(random.randrange(len(pool)))
        yield from pool


def collate(rows):
    ids = [[zlib.crc32(f"^{text}$"[i : i + 3].encode()) % 512 for i in range(len(text))] for text, _ in rows]
    return {
        "text": [text for text, _ in rows],
        "ids": torch.tensor([number for line in ids for number in line]),
        "offsets": torch.tensor([0, *map(len, ids[:-1])]).cumsum(0),
        "labels": torch.tensor([label for _, label in rows]),
    }


class LogData(pl.LightningDataModule):
    def __init__(self, num_workers: int = 2):
        super().__init__()
        self.save_hyperparameters()

    def loader(self, part, number, noise=0.0):
        lines = Lines(part, number, noise)
        return DataLoader(lines, 16, collate_fn=collate, num_workers=self.hparams.num_workers)

    def train_dataloader(self):
        return self.loader("train", 160, 0.3)

    def val_dataloader(self):
        return self.loader("val", 40)

    def test_dataloader(self):
        return self.loader("test", 40)

    predict_dataloader = test_dataloader


class LogClassifier(pl.LightningModule):
    def __init__(self, dim: int = 8, lr: float = 0.1):
        super().__init__()
        self.save_hyperparameters()
        self.embedding = nn.EmbeddingBag(512, dim)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(dim, len(LABELS)))
        metrics = torchmetrics.MetricCollection(
            {
                "acc": torchmetrics.classification.MulticlassAccuracy(len(LABELS), average="micro"),
                "f1": torchmetrics.classification.MulticlassF1Score(len(LABELS)),
            }
        )
        self.metrics = nn.ModuleDict({name: metrics.clone(f"{name}_") for name in ("fit", "val", "test")})

    def forward(self, batch):
        return self.head(self.embedding(batch["ids"], batch["offsets"]))

    def shared_step(self, batch, name):
        logits = self(batch)
        self.metrics[name].update(logits, batch["labels"])
        return nn.functional.cross_entropy(logits, batch["labels"])

    def shared_end(self, name):
        self.log_dict(self.metrics[name].compute())
        self.metrics[name].reset()

    def training_step(self, batch, batch_idx):
        return {"loss": self.shared_step(batch, "fit")}

    def on_train_epoch_end(self):
        self.shared_end("fit")

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.shared_step(batch, "val"), batch_size=len(batch["labels"]))

    def on_validation_epoch_end(self):
        self.shared_end("val")

    def test_step(self, batch, batch_idx):
        self.shared_step(batch, "test")

    def on_test_epoch_end(self):
        self.shared_end("test")

    def predict_step(self, batch, batch_idx):
        probabilities, answers = self(batch).softmax(-1).max(-1)
        return {
            "text": batch["text"],
            "component": [LABELS[answer] for answer in answers.tolist()],
            "probability": probabilities,
        }

    def configure_optimizers(self):
        return torch.optim.Adagrad(self.parameters(), lr=self.hparams.lr)
