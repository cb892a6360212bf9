"""A classifier of photographs, which src.images.files.PictureFiles decodes anew in each epoch."""

import lightning as L
import torch
import torch.nn.functional as F
from torchvision.models import get_model


class PhotoClassifier(L.LightningModule):
    def __init__(self, classes: int, network: str = "resnet18", lr: float = 1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net = get_model(network, weights=None, num_classes=classes)

    def forward(self, images):
        return self.net(images)

    def training_step(self, batch, batch_idx):
        images, classes = batch
        loss = F.cross_entropy(self(images), classes)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self._judge(batch, "val")

    def test_step(self, batch, batch_idx):
        self._judge(batch, "test")

    def _judge(self, batch, part):
        images, classes = batch
        logits = self(images)
        self.log(f"{part}_loss", F.cross_entropy(logits, classes), batch_size=len(images))
        self.log(f"{part}_acc", (logits.argmax(1) == classes).float().mean(), batch_size=len(images))

    def predict_step(self, batch, batch_idx):
        images, files = batch
        return {"file": list(files), "probability": self(images).softmax(1)}

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
