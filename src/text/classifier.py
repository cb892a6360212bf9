"""The LightningModule that classifies texts.

B batch, T tokens, V vocabulary, K classes
"""

from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional

from src.core.errors import ConfigurationError
from src.text.data import DocumentBatches, LabelledData
from src.text.encoders import EncoderCallable, begin_with
from src.text.language_models import PretrainedTransformer
from src.text.preprocessing import SPECIAL, UNK, Preprocessing
from src.training.calibration import fit_temperature
from src.training.distributed import mean_over_processes
from src.training.freezing import frozen_of
from src.training.networks import require_outputs
from src.training.optimizers import ParameterGroups
from src.training.supervised import Batch, Supervised

DOCUMENTS_AT_ONCE = 256


class TextClassifier(Supervised):
    """A classifier of texts. Batches are token numbers (B, T), padded at the end, and classes (B,) int64.

    Args:
        preprocessing: of the data; gives the vocabulary and the classes.
        network: a class of src.text.encoders, src.text.language_models.PretrainedTransformer, or one with the
            same call.
        unknown_share: the share of the tokens occurring only once that training replaces by `<UNK>`, so that
            the network learns to read it.
        token_dropout: the share of all tokens that training replaces by `<UNK>` (Iyyer et al. 2015, section
            2.3), so that no single word decides.
        label_smoothing: of the cross-entropy.
        optimizer: any of torch.optim.
        lr_scheduler: any of torch.optim.lr_scheduler.
        lr_interval: "epoch" or "step", when the scheduler steps.
        parameter_groups: settings of the optimizer for parameters by name, such as
            `[{pattern: 'bias|Norm', weight_decay: 0}]` (src.training.optimizers.grouped).
        freeze: the parameters of the network that are not trained: `body` (all but the last layer), or a
            pattern that is searched in their names, such as `embedding`.
        unfreeze_at: the epoch, counted from 0, from which on they are trained, too; null for never.
        calibrate: whether logits are divided by a temperature, so that probabilities fit. It is learnt after
            the training from the validation texts, with the weights that are kept.

    Raises:
        ConfigurationError: the texts have no classes, a share is out of range, as
            `src.training.freezing.frozen_of`, or `calibrate` with data that are not those of `LabelledData`.
    """

    temperature: Tensor | None

    def __init__(
        self,
        preprocessing: Preprocessing,
        network: EncoderCallable,
        unknown_share: float = 0.5,
        token_dropout: float = 0.0,
        label_smoothing: float = 0.0,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_interval: Literal["epoch", "step"] = "epoch",
        parameter_groups: ParameterGroups | None = None,
        freeze: str | None = None,
        unfreeze_at: int | None = None,
        calibrate: bool = False,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, lr_interval, parameter_groups)
        if preprocessing.labels is None:
            raise ConfigurationError("TextClassifier needs texts with classes: set prepare.label")
        if not 0 <= unknown_share <= 1:
            raise ConfigurationError(f"model.unknown_share must lie between 0 and 1: {unknown_share}")
        for name, value in (("token_dropout", token_dropout), ("label_smoothing", label_smoothing)):
            if not 0 <= value < 1:
                raise ConfigurationError(f"model.{name} must be at least 0 and below 1: {value}")
        self.unknown_share = unknown_share
        self.token_dropout = token_dropout
        self.label_smoothing = label_smoothing
        self.classes = preprocessing.labels.classes
        counts = torch.tensor(preprocessing.counts)
        rare = (counts == 1) & (torch.arange(len(counts)) >= len(SPECIAL))
        if preprocessing.language_model is not None:  # which knows them
            rare = torch.zeros_like(rare)
        # not persistent, as a bundle has it in preprocessing.json
        self.rare = nn.Buffer(rare, persistent=False)
        self.network = network(len(preprocessing.vocabulary), len(self.classes))
        if isinstance(self.network, PretrainedTransformer):
            self.network.build(preprocessing.language_model)
        self.frozen = frozen_of(self.network, freeze, unfreeze_at)
        self.register_buffer("temperature", torch.tensor(1.0) if calibrate else None)
        self.example_input_array = torch.full((2, 8), UNK)

    def setup(self, stage: str) -> None:
        """Begin with the pretrained vectors or weights of the prepared data, if any, and freeze."""
        if stage != "fit":
            return
        assert isinstance(self.example_input_array, Tensor)
        require_outputs(self.network, self.example_input_array.to(self.device), len(self.classes))
        data = getattr(self.trainer, "datamodule", None)
        if self.temperature is not None and not isinstance(data, LabelledData):
            raise ConfigurationError(
                f"model.calibrate: it needs the validation texts of src.text.data.LabelledData, found "
                f"{type(data).__name__}; leave it out"
            )
        if isinstance(data, LabelledData):  # the weights of a checkpoint replace them later
            vectors = data.vectors()
            if vectors is not None:
                begin_with(self.network, vectors)
            if isinstance(self.network, PretrainedTransformer):
                self.network.load(data.prepared)
        if self.frozen is not None:
            self.frozen.begin(self.network, self.trainer)

    def on_fit_end(self) -> None:
        """Learn the temperature from the validation texts, with the weights that are kept."""
        if self.temperature is None:
            return
        tokens, offsets, target = self.trainer.datamodule.tensors("validation")  # type: ignore[attr-defined]
        training = self.training
        self.eval()
        self.temperature.fill_(fit_temperature(self.logits_of(tokens, offsets), target))
        self.train(training)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) to logits (B, K)."""
        logits: Tensor = self.network(tokens)
        return logits

    @torch.inference_mode()
    def logits_of(self, tokens: Any, offsets: Tensor) -> Tensor:
        """Return logits (N, K) of documents in their order, on the CPU; in evaluation mode.

        Args:
            tokens: of all documents in one row, which may be a `RemoteArray`.
            offsets: where each document begins (N + 1,).
        """
        documents = len(offsets) - 1
        found = torch.zeros(documents, len(self.classes))
        for batch, numbers in DocumentBatches((tokens, offsets, torch.arange(documents)), DOCUMENTS_AT_ONCE):
            found[numbers] = self(batch.long().to(self.device)).float().cpu()
        return found

    def predict(self, outputs: Tensor) -> Tensor:
        """Logits (B, K) to probabilities (B, K), after the division by the temperature, if there is one."""
        return super().predict(outputs if self.temperature is None else outputs / self.temperature)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean loss over the documents of a batch; of several processes, each has a part of it."""
        tokens, target = batch[0].long(), batch[1]
        if self.unknown_share or self.token_dropout:
            drawn = torch.rand(tokens.shape, device=tokens.device)
            left_out = (drawn < self.token_dropout) | (self.rare[tokens] & (drawn < self.unknown_share))
            tokens = tokens.masked_fill((tokens >= len(SPECIAL)) & left_out, UNK)
        outputs = self(tokens)
        self.epoch_outputs.add("train", outputs, target)
        return mean_over_processes(self.loss_of(outputs, target), len(target))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the outputs for the metrics of the epoch."""
        super().validation_step((batch[0].long(), batch[1]), batch_idx)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the outputs for the metrics of the epoch."""
        super().test_step((batch[0].long(), batch[1]), batch_idx)

    def loss_of(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The cross-entropy of logits (B, K) and classes (B,)."""
        return functional.cross_entropy(outputs, target, label_smoothing=self.label_smoothing)

    def metrics_of(self, outputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The loss, accuracy, and precision, recall and F1 as means over the classes."""
        return {"loss": self.loss_of(outputs, target), **super().metrics_of(outputs, target)}
