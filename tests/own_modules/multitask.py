"""Written for LightningCLI: parts by class_path, optimizer and schedule as callables, two heads."""

import random
from itertools import pairwise

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix


class MLPEncoder(nn.Module):
    def __init__(self, in_features: int = 10, width: int = 32, depth: int = 2, activation: type = nn.ReLU):
        super().__init__()
        sizes = [in_features] + [width] * depth
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.act = activation()
        self.drop = nn.Dropout(0.2)
        self.out_features = width

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.drop(self.act(layer(x)))
        return x


class MultiTask(LightningModule):
    def __init__(
        self,
        encoder: nn.Module,
        num_classes: int = 4,
        class_weights: list[float] | None = None,
        mixup: float = 0.3,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable = torch.optim.lr_scheduler.ConstantLR,
    ):
        super().__init__()
        self.save_hyperparameters(ignore=["encoder"])
        self.encoder = encoder
        self.classify = nn.Linear(encoder.out_features, num_classes)
        self.regress = nn.Linear(encoder.out_features, 1)
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.criterion = nn.CrossEntropyLoss(weight=weights, label_smoothing=0.05)
        self.log_vars = nn.Parameter(torch.zeros(2))
        self.acc = nn.ModuleDict(
            {f"{s}_acc": MulticlassAccuracy(num_classes) for s in ("train", "val", "test")}
        )
        self.confusion = MulticlassConfusionMatrix(num_classes)
        self.optimizer, self.scheduler = optimizer, scheduler

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.encoder(x)
        return self.classify(h), self.regress(h).squeeze(-1)

    def _step(self, batch, stage: str) -> Tensor:
        x, label, value = batch
        if stage == "train" and random.random() < 0.5:
            lam = random.betavariate(self.hparams.mixup, self.hparams.mixup)
            perm = torch.randperm(len(x), device=x.device)
            x, value = lam * x + (1 - lam) * x[perm], lam * value + (1 - lam) * value[perm]
            label = label if lam > 0.5 else label[perm]
        logits, estimate = self(x)
        losses = torch.stack([self.criterion(logits, label), nn.functional.smooth_l1_loss(estimate, value)])
        loss = (losses * (-self.log_vars).exp() + self.log_vars).sum()
        metric = self.acc[f"{stage}_acc"]
        metric(logits, label)
        on_step = stage == "train"
        self.log(f"{stage}/loss", loss, on_step=on_step, on_epoch=True, prog_bar=True, batch_size=len(x))
        self.log(f"{stage}/acc", metric, on_step=False, on_epoch=True)
        if stage == "val":
            self.confusion.update(logits, label)
        return loss

    def training_step(self, batch, batch_idx):
        return self._step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self._step(batch, "val")

    def on_validation_epoch_end(self):
        matrix = self.confusion.compute()
        self.log("val/worst_recall", (matrix.diag() / matrix.sum(1).clamp(min=1)).min())
        self.confusion.reset()

    def test_step(self, batch, batch_idx):
        self._step(batch, "test")

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        logits, estimate = self(batch[0])
        return logits.softmax(-1), logits.argmax(-1), estimate

    def on_before_optimizer_step(self, optimizer):
        norm = torch.stack([p.grad.norm() for p in self.parameters() if p.grad is not None]).norm()
        self.log("grad_norm", norm)

    def configure_optimizers(self):
        optimizer = self.optimizer(self.parameters())
        return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer)}


class Blobs(LightningDataModule):
    def __init__(self, batch_size: int = 32, num_workers: int = 0, val_fraction: float = 0.25, seed: int = 0):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str):
        g = torch.Generator().manual_seed(self.hparams.seed)
        centres = torch.randn(4, 10, generator=g) * 2
        label = torch.randint(4, (400,), generator=g)
        x = centres[label] + torch.randn(400, 10, generator=g)
        data = TensorDataset(x, label, x.sum(1) / 3)
        cut = int(300 * (1 - self.hparams.val_fraction))
        order = torch.randperm(300, generator=g).tolist()
        self.train = ConcatDataset([Subset(data, order[: cut // 2]), Subset(data, order[cut // 2 : cut])])
        self.val, self.test = Subset(data, order[cut:]), Subset(data, range(300, 400))

    def _loader(self, dataset, shuffle=False):
        return DataLoader(
            dataset, batch_size=self.hparams.batch_size, shuffle=shuffle, num_workers=self.hparams.num_workers
        )

    def train_dataloader(self):
        return self._loader(self.train, shuffle=True)

    def val_dataloader(self):
        return self._loader(self.val)

    def test_dataloader(self):
        return self._loader(self.test)

    predict_dataloader = test_dataloader
