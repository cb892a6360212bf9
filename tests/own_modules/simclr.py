"""SimCLR: two views of each picture by a collate class, a warm-up, files that prepare_data writes."""

# ruff: noqa: PTH103, PTH110, PTH118

import math
import os

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset


class TwoViews:
    """Collate function: two random views of each image."""

    def __init__(self, noise=0.1, max_shift=1):
        self.noise = noise
        self.max_shift = max_shift

    def view(self, img):
        dx, dy = np.random.randint(-self.max_shift, self.max_shift + 1, size=2)
        img = torch.roll(img, shifts=(int(dx), int(dy)), dims=(-2, -1))
        if torch.rand(1) < 0.5:
            img = img.flip(-1)
        return img + self.noise * torch.randn_like(img)

    def __call__(self, batch):
        imgs, labels = zip(*batch)  # noqa: B905
        return (
            torch.stack([self.view(i) for i in imgs]),
            torch.stack([self.view(i) for i in imgs]),
            torch.tensor(labels),
        )


class NpyDigits(Dataset):
    def __init__(self, root, split):
        self.images = np.load(os.path.join(root, f"{split}_images.npy"), mmap_mode="r")
        self.labels = np.load(os.path.join(root, f"{split}_labels.npy"))

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        return torch.from_numpy(self.images[idx].copy()).unsqueeze(0), int(self.labels[idx])


class DigitsDataModule(pl.LightningDataModule):
    def __init__(self, data_dir: str = "./digits", batch_size: int = 64, num_workers: int = 2):
        super().__init__()
        self.data_dir, self.batch_size, self.num_workers = data_dir, batch_size, num_workers
        self.epochs_served = 0

    def prepare_data(self):
        os.makedirs(self.data_dir, exist_ok=True)
        if os.path.exists(os.path.join(self.data_dir, "train_images.npy")):
            return
        x, y = load_digits(return_X_y=True)
        x = (x.reshape(-1, 8, 8) / 16).astype("float32")
        for split, part in (
            ("train", slice(0, 320)),
            ("val", slice(1000, 1128)),
            ("test", slice(1128, 1256)),
        ):
            np.save(os.path.join(self.data_dir, f"{split}_labels.npy"), y[part])
            np.save(os.path.join(self.data_dir, f"{split}_images.npy"), x[part])

    def _loader(self, split, **kw):
        return DataLoader(
            NpyDigits(self.data_dir, split),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=TwoViews(),
            persistent_workers=self.num_workers > 0,
            **kw,
        )

    def train_dataloader(self):
        self.epochs_served += 1
        return self._loader("train", shuffle=True, drop_last=True)

    def val_dataloader(self):
        return self._loader("val")

    def test_dataloader(self):
        return self._loader("test")

    def predict_dataloader(self):
        return DataLoader(NpyDigits(self.data_dir, "test"), batch_size=32)

    def state_dict(self):
        return {"epochs_served": self.epochs_served}

    def load_state_dict(self, state_dict):
        self.epochs_served = state_dict["epochs_served"]


class SimCLR(pl.LightningModule):
    def __init__(
        self,
        hidden_dim: int = 32,
        lr: float = 5e-3,
        temperature=0.2,
        weight_decay=1e-4,
        warmup_steps: int = 4,
    ):
        super().__init__()
        self.save_hyperparameters()
        assert self.hparams.temperature > 0.0, "The temperature must be a positive float!"
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.projection = nn.Sequential(
            nn.Linear(16, hidden_dim), nn.ReLU(inplace=True), nn.Linear(hidden_dim, hidden_dim)
        )

    def forward(self, x):
        return self.backbone(x)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay
        )
        total = self.trainer.max_epochs * 5

        def warmup_cosine(step):
            if step < self.hparams.warmup_steps:
                return (step + 1) / self.hparams.warmup_steps
            return 0.5 * (1 + math.cos(math.pi * step / max(total, 1)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine)
        return [optimizer], [{"scheduler": scheduler, "interval": "step", "name": "lr"}]

    def info_nce_loss(self, batch, mode="train"):
        first, second, _ = batch
        imgs = torch.cat([first, second], dim=0)
        feats = self.projection(self(imgs))
        cos_sim = F.cosine_similarity(feats[:, None, :], feats[None, :, :], dim=-1)
        self_mask = torch.eye(cos_sim.shape[0], dtype=torch.bool, device=cos_sim.device)
        cos_sim.masked_fill_(self_mask, -9e15)
        pos_mask = self_mask.roll(shifts=cos_sim.shape[0] // 2, dims=0)
        cos_sim = cos_sim / self.hparams.temperature
        nll = (-cos_sim[pos_mask] + torch.logsumexp(cos_sim, dim=-1)).mean()
        self.log(mode + "_loss", nll)
        comb_sim = torch.cat([cos_sim[pos_mask][:, None], cos_sim.masked_fill(pos_mask, -9e15)], dim=-1)
        sim_argsort = comb_sim.argsort(dim=-1, descending=True).argmin(dim=-1)
        self.log(mode + "_acc_top1", (sim_argsort == 0).float().mean())
        self.log(mode + "_acc_top5", (sim_argsort < 5).float().mean())
        return nll

    def training_step(self, batch, batch_idx):
        return self.info_nce_loss(batch, mode="train")

    def validation_step(self, batch, batch_idx):
        self.info_nce_loss(batch, mode="val")

    def test_step(self, batch, batch_idx):
        self.info_nce_loss(batch, mode="test")

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        imgs, labels = batch
        return {"embedding": F.normalize(self(imgs), dim=1), "label": labels}
