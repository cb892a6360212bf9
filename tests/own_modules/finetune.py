"""A network of torchvision whose weights are read from a file; only its last layer is trained."""

import lightning as L
import torch
import torch.nn.functional as F
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class ImagenetTransferLearning(L.LightningModule):
    def __init__(self, backbone: nn.Module, weights: str, num_target_classes: int = 3, lr: float = 1e-2):
        super().__init__()
        self.save_hyperparameters(ignore=["backbone"])
        backbone.load_state_dict(torch.load(weights, weights_only=True))
        num_filters = backbone.fc.in_features
        layers = list(backbone.children())[:-1]
        self.feature_extractor = nn.Sequential(*layers)
        self.feature_extractor.requires_grad_(False)
        self.classifier = nn.Linear(num_filters, num_target_classes)
        self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=num_target_classes)

    def forward(self, x):
        self.feature_extractor.eval()
        with torch.no_grad():
            representations = self.feature_extractor(x).flatten(1)
        return self.classifier(representations)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.accuracy(logits, y)
        self.log("val_loss", F.cross_entropy(logits, y))
        self.log("val_acc", self.accuracy, prog_bar=True)

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.accuracy(self(x), y)
        self.log("test_acc", self.accuracy)

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        return self(batch[0]).softmax(dim=-1)

    def configure_optimizers(self):
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.Adam(parameters, lr=self.hparams.lr)


class Colours(L.LightningDataModule):
    def __init__(self, batch_size: int = 8):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage):
        generator = torch.Generator().manual_seed(4)
        y = torch.arange(48) % 3
        x = 0.1 * torch.randn(48, 3, 16, 16, generator=generator)
        x[torch.arange(48), y] += 1
        self.parts = [TensorDataset(x[a:b], y[a:b]) for a, b in ((0, 24), (24, 36), (36, 48))]

    def train_dataloader(self):
        return DataLoader(self.parts[0], batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.parts[1], batch_size=self.hparams.batch_size)

    def test_dataloader(self):
        return DataLoader(self.parts[2], batch_size=self.hparams.batch_size)

    def predict_dataloader(self):
        return self.test_dataloader()
