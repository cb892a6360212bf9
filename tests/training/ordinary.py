"""Modules and data as Lightning's documentation writes them, which know nothing of this project."""

# ruff: noqa: N812, S311 - names and random numbers as there

import random
from collections import deque
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Sampler,
    WeightedRandomSampler,
    random_split,
)
from torchmetrics import MaxMetric, MeanMetric, MetricCollection, MinMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassPrecision, MulticlassRecall

ROWS, FEATURES, CLASSES = 48, 6, 3


class Points(Dataset[tuple[Tensor, Tensor]]):
    """Rows around class centres, moved at random each time, by three libraries."""

    def __init__(self, augment: bool = False) -> None:
        generator = torch.Generator().manual_seed(1)
        self.y = torch.arange(ROWS) % CLASSES
        self.x = torch.randn(ROWS, FEATURES, generator=generator) + self.y[:, None]
        self.augment = augment

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x = self.x[index]
        if self.augment:
            x = x + 0.1 * torch.randn(FEATURES) + random.random() + np.random.rand()  # noqa: NPY002
        return x.float(), self.y[index]


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """An endless source, cut after an epoch's rows."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        points = Points()
        for _ in range(ROWS):
            yield points[int(torch.randint(ROWS, ()))]


class Lazy(Sampler[list[int]]):
    """Batches of rows that are drawn one by one, by two libraries."""

    def __len__(self) -> int:
        return ROWS // 8

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(len(self)):
            yield [random.randrange(ROWS), *np.random.choice(ROWS, 7).tolist()]  # noqa: NPY002


class Noisy(Points):
    """Rows moved by generators that the dataset owns."""

    def __init__(self) -> None:
        super().__init__()
        self.rngs = {"numpy": np.random.default_rng(0), "python": random.Random(0)}
        self.noise = [torch.Generator().manual_seed(0)]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = super().__getitem__(index)
        shift = self.rngs["numpy"].normal() + self.rngs["python"].random()  # type: ignore[attr-defined]
        return (x + shift + torch.randn(FEATURES, generator=self.noise[0])).float(), y


class PointsData(L.LightningDataModule):
    def __init__(self, workers: int = 0, sampler: str = "shuffle", augment: bool = True) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.generator = torch.Generator().manual_seed(7)
        self.served = 0

    def state_dict(self) -> dict[str, Any]:
        return {"served": self.served}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.served = state_dict["served"]

    def setup(self, stage: str) -> None:
        self.train = Points(self.hparams["augment"])
        self.validation, _ = random_split(Points(), [24, 24], generator=torch.Generator().manual_seed(2))

    def train_dataloader(self) -> Any:
        sampler = self.hparams["sampler"]
        self.served += 1
        if sampler == "more each epoch":
            return DataLoader(
                torch.utils.data.Subset(self.train, range(8 * self.served)), batch_size=4, shuffle=True
            )
        if sampler == "stream":
            return DataLoader(Stream(), batch_size=8, num_workers=self.hparams["workers"])
        if sampler == "own rngs":
            return DataLoader(Noisy(), batch_size=8, shuffle=True, num_workers=self.hparams["workers"])
        if sampler == "lazy":
            return DataLoader(self.train, batch_sampler=Lazy(), num_workers=self.hparams["workers"])
        if sampler == "two loaders":
            few = torch.utils.data.Subset(self.train, range(16))
            return {
                "all": DataLoader(self.train, batch_size=8, shuffle=True),
                "few": DataLoader(few, batch_size=8, shuffle=True, num_workers=self.hparams["workers"]),
            }
        options: dict[str, Any] = {
            "shuffle": {"shuffle": True},
            "own generator": {"shuffle": True, "generator": self.generator},
            "weighted": {"sampler": WeightedRandomSampler([1.0] * 24 + [3.0] * 24, ROWS)},
            "by age": {"sampler": ByAge()},
            "persistent": {"shuffle": True, "persistent_workers": True},
        }[sampler]
        return DataLoader(self.train, batch_size=8, num_workers=self.hparams["workers"], **options)

    def val_dataloader(self) -> Any:
        return DataLoader(self.validation, batch_size=8)

    test_dataloader = predict_dataloader = val_dataloader


class Classifier(L.LightningModule):
    def __init__(self, hidden: int = 8, lr: float = 0.05) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Linear(FEATURES, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(hidden, CLASSES),
        )
        self.accuracy = MulticlassAccuracy(CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        if random.random() < 0.5:
            x = x + 0.05 * torch.randn_like(x)
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        self.accuracy(logits, y)
        self.log("train_loss", loss)
        self.log("train_acc", self.accuracy, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", F.cross_entropy(self(x), y), prog_bar=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("test_loss", F.cross_entropy(self(x), y))

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch[0]).softmax(-1)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"])
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
        return {"optimizer": optimizer, "lr_scheduler": schedule}


class Cooling(nn.Module):
    """Divides by a temperature that training changes, in a private attribute."""

    def __init__(self) -> None:
        super().__init__()
        self._temperature = 2.0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self._temperature *= 0.95
        return x / self._temperature


class Carrying(Classifier):
    """Carries the mean of its rows from step to step, in a buffer that its state does not have."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.net.append(Cooling())
        self.register_buffer("mean", torch.zeros(FEATURES), persistent=False)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        self.mean = 0.9 * self.mean + 0.1 * x.mean(dim=0)
        return super().training_step((x - self.mean, y), batch_idx)


class Average(L.Callback):
    """Validates an average of the weights, as many projects write it."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.average = deepcopy(pl_module.net)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        for mean, tensor in zip(self.average.parameters(), pl_module.net.parameters(), strict=True):
            mean.data.lerp_(tensor.data, 0.1)

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.kept = {name: tensor.clone() for name, tensor in pl_module.net.state_dict().items()}
        pl_module.net.load_state_dict(self.average.state_dict())

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        pl_module.net.load_state_dict(self.kept)


class Autoencoder(L.LightningModule):
    """Without validation and without a test."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(FEATURES, 2), nn.Linear(2, FEATURES)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, _ = batch
        loss = F.mse_loss(self.decoder(self.encoder(x)), x)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class GAN(L.LightningModule):
    """Two optimizers, stepped by hand, as in Lightning's tutorial."""

    def __init__(self, latent: int = 4) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.latent = latent
        self.generator = nn.Sequential(nn.Linear(latent, 8), nn.ReLU(), nn.Linear(8, FEATURES))
        self.discriminator = nn.Sequential(nn.Linear(FEATURES, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        real, _ = batch
        first, second = self.optimizers()  # type: ignore[misc]
        fake = self.generator(torch.randn(len(real), self.latent))
        self.toggle_optimizer(first)
        g_loss = F.softplus(-self.discriminator(fake)).mean()
        self.manual_backward(g_loss)
        first.step()
        first.zero_grad()
        self.untoggle_optimizer(first)
        self.toggle_optimizer(second)
        d_loss = (
            F.softplus(-self.discriminator(real)).mean()
            + F.softplus(self.discriminator(fake.detach())).mean()
        )
        self.manual_backward(d_loss)
        second.step()
        second.zero_grad()
        self.untoggle_optimizer(second)
        self.log_dict({"g_loss": g_loss, "d_loss": d_loss}, prog_bar=True)

    def on_train_epoch_end(self) -> None:
        for schedule in self.lr_schedulers():  # type: ignore[union-attr]
            schedule.step()

    def configure_optimizers(self) -> Any:
        first = torch.optim.Adam(self.generator.parameters(), lr=2e-3, betas=(0.5, 0.999))
        second = torch.optim.Adam(self.discriminator.parameters(), lr=2e-3, betas=(0.5, 0.999))
        return [first, second], [torch.optim.lr_scheduler.StepLR(each, 2) for each in (first, second)]


class Collector(L.LightningModule):
    """Logs means, maxima and metrics of an epoch, collects outputs, and accumulates gradients by hand."""

    def __init__(self, every: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.net = nn.Linear(FEATURES, CLASSES)
        self.several = MetricCollection([MulticlassPrecision(CLASSES), MulticlassRecall(CLASSES)])
        self.outputs: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> None:
        parts = list(batch.values()) if isinstance(batch, dict) else [batch]
        x, y = (torch.cat(part) for part in zip(*parts, strict=True))
        logits = self.net(F.dropout(x))
        loss = F.cross_entropy(logits, y)
        self.manual_backward(loss / self.hparams["every"])
        optimizer: Any = self.optimizers()
        if (batch_idx + 1) % self.hparams["every"] == 0:
            optimizer.step()
            optimizer.zero_grad()
        self.outputs.append({"loss": loss, "size": len(x)})
        self.several.update(logits, y)
        if batch_idx < 2:
            self.log("early", loss, on_epoch=True)
        self.log("mean", loss, on_step=False, on_epoch=True)
        self.log("highest", loss, on_step=False, on_epoch=True, reduce_fx=max)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)

    def on_train_epoch_end(self) -> None:
        self.log_dict(self.several.compute())
        self.several.reset()
        losses = torch.stack([output["loss"].detach() * output["size"] for output in self.outputs])
        self.log("collected", losses.sum())
        self.outputs.clear()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", F.cross_entropy(self.net(x), y))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class OneCycle(Autoencoder):
    """A schedule that asks for the number of steps, before a checkpoint is loaded."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class ByStep(Autoencoder):
    """A plateau that is looked for at each step."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1, factor=0.7)
        settings = {"scheduler": schedule, "monitor": "train_loss", "interval": "step", "frequency": 1}
        return {"optimizer": optimizer, "lr_scheduler": settings}


class ByEpoch(Classifier):
    """A plateau schedule of the validation, which reduces the rate nearly every epoch."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val_loss"}}


class Dropping(Classifier):
    """Drops inputs by a generator of the module."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.default_rng(0)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        kept = torch.from_numpy(self.rng.random(x.shape) < 0.8)
        return super().training_step((x * kept, y), batch_idx)


class Annealing:
    """A helper of the author, with plain attributes."""

    def __init__(self) -> None:
        self.noise = 0.5
        self.shadow = {"mean": torch.zeros(FEATURES)}
        self.recent: dict[str, deque[float]] = {"loss": deque(maxlen=3)}


class Move(NamedTuple):
    state: np.ndarray[Any, Any]
    label: int


class Player:
    """A helper of the author, which keeps what was met."""

    def __init__(self) -> None:
        self.buffer: deque[Move] = deque((Move(np.zeros(FEATURES, "f"), 0) for _ in range(8)), maxlen=40)


class Replay(IterableDataset[tuple[Any, int]]):
    """Rows of a buffer, which the training fills."""

    def __init__(self, player: Player) -> None:
        self.player = player

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        for number in np.random.choice(len(self.player.buffer), 24):  # noqa: NPY002
            yield tuple(self.player.buffer[number])  # type: ignore[misc]


class Replaying(Classifier):
    """Learns from a buffer of moves, as reinforcement learning does; with loaders of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.agent = Player()
        self.views = [self.agent]  # what only a pickle could store
        self.more = iter(DataLoader(Points(), 1))

    def on_train_epoch_start(self) -> None:
        self.fresh = iter(DataLoader(Points(), 1))

    def train_dataloader(self) -> Any:
        return DataLoader(Replay(self.agent), batch_size=8)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        next(self.more)
        self.agent.buffer.append(Move(np.random.rand(FEATURES).astype("f"), batch_idx % CLASSES))  # noqa: NPY002
        return super().training_step(batch, batch_idx)


class ByAge(Sampler[int]):
    """A sampler that goes on from one epoch to the next."""

    def __init__(self) -> None:
        self.first = 0

    def __len__(self) -> int:
        return ROWS

    def __iter__(self) -> Iterator[int]:
        order = [(self.first + number) % ROWS for number in range(ROWS)]
        self.first += 5
        yield from order


class Stateful(Classifier):
    """Counts, anneals, collects and keeps metrics from epoch to epoch, in all of which its steps depend."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.best = float("inf")
        self.helper = Annealing()
        self.losses: list[float] = []
        self.highest, self.lowest, self.mean = MaxMetric(), MinMetric(), MeanMetric()
        self.norm = nn.BatchNorm1d(FEATURES)

    def on_train_start(self) -> None:
        self.highest.reset()  # of the sanity check

    def on_train_epoch_start(self) -> None:
        self.helper.noise *= 0.9
        self.hparams["weight"] = 1 + self.current_epoch / 10
        if self.current_epoch == 1:
            self.norm.eval()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        self.steps += 1
        self.helper.shadow["mean"] += x.mean(0)
        x = self.norm(x) + self.helper.noise * torch.randn_like(x) + self.helper.shadow["mean"] / self.steps
        loss = super().training_step((x, y), batch_idx) * self.hparams["weight"]
        self.helper.recent["loss"].append(loss.item())
        self.losses.append(loss.item())
        self.mean.update(loss)
        # the best accuracy so far, and the mean of all losses, change the gradients
        best = self.highest.compute() if self.highest.update_called else 0.5
        return (
            loss
            * (1 + best)
            * self.mean.compute()
            * (1 + sum(self.helper.recent["loss"]))
            / len(self.losses) ** 0.5
        )

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            loss = float(self.trainer.callback_metrics.get("val_loss", 1.0))
            self.best = min(self.best, loss)
            self.highest.update(self.best)
            self.lowest.update(loss)
            self.log("val_highest", self.highest.compute())
            self.log("val_lowest", self.lowest.compute())
