"""The LightningModule of tables: regression or classification of prepared rows.

B batch, F features, O outputs, C classes, T targets
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from jsonargparse.typing import NonNegativeFloat, OpenUnitInterval
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.distributions import Beta
from torch.nn import functional

from src.tabular.data import TabularData
from src.tabular.decisions import (
    ThresholdMetric,
    balanced_weights,
    best_threshold,
    by_class,
    fit_margin,
    require_decisions,
    require_rows,
)
from src.tabular.embeddings import CategoryEmbeddings, EmbeddedNetwork
from src.tabular.losses import log_rmse, perceptron_loss, quantile_loss, require_loss, weight_penalty
from src.tabular.preprocessing import Preprocessing, Target
from src.tabular.quantities import in_unit, quantity_metrics
from src.training.calibration import fit_temperature, outputs_of
from src.training.distributed import mean_over_processes
from src.training.metrics import classification_metrics
from src.training.optimizers import ParameterGroups
from src.training.supervised import Supervised

Batch = tuple[Tensor, ...]  # features, target and, of FoldedData, positions
NetworkCallable = Callable[[int, int], nn.Module]  # inputs, outputs

EVALUATED_AT_ONCE = 8192  # rows


class TabularModel(Supervised):
    """A network on prepared rows, with its loss, metrics and optimizer.

    What `calibrate`, `threshold` and `interval` ask for is learnt after the training, by the weights that are
    kept, from the validation rows. It is part of the bundle.

    Args:
        preprocessing: what the preparation has learnt; it gives F, O and the transform of the target.
        network: src.training.networks.MLP, or any class below src or torch.nn whose first two arguments are
            the numbers of inputs F and outputs O, and which maps (B, F) to (B, O).
        loss: mse, mae, smooth_l1 or quantile of the transformed target, log_rmse in the unit of the target;
            cross_entropy or, for two classes, bce or perceptron. O is the number of classes for
            cross_entropy, else that of targets; several targets of classes need bce.
        label_smoothing: of cross_entropy and bce: this share of the probability that is asked for is spread
            evenly over the classes (Szegedy et al. 2016, "Rethinking the Inception Architecture").
        mixup: alpha of a Beta distribution, for example 0.2; 0 for none. Each row of a training batch becomes
            the weighted mean of itself and another one, and its loss that of both targets with these weights
            (Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization"). The metrics of the training
            rows are then those of mixed ones, by the target with the larger weight.
        quantile: that the loss `quantile` predicts: 0.9 is above nine of ten values.
        class_weights: factors of the losses of the rows of each class, `{yes: 5}`, where a class that is not
            named has 1; `auto` counts all classes alike: rows / (classes * rows of the class). For
            cross_entropy and bce, also in the loss of the validation and test rows.
        calibrate: whether logits are divided by a temperature, so that probabilities fit.
        threshold: of two classes: the metric that it maximises, or a class and the probability from which on
            it is the answer, `{yes: 0.2}`. None answers the more probable class.
        interval: the share of rows whose value prediction intervals are to have in them, such as 0.9; predict
            then adds the columns `lower` and `upper`. None for no intervals.
        l1: factor of the L1 penalty on the weights, added to the training loss.
        l2: factor of the L2 penalty on the weights; equals weight decay under SGD.
        optimizer: any of torch.optim.
        lr_scheduler: any of torch.optim.lr_scheduler.
        lr_interval: whether the schedule advances each epoch or each step.
        parameter_groups: settings of the optimizer for parameters by name, such as
            `[{pattern: 'bias|Norm', weight_decay: 0}]` (src.training.optimizers.grouped).

    Raises:
        ConfigurationError: the loss or a decision does not fit the target, or a class is unknown.
    """

    class_weights: Tensor | None
    temperature: Tensor | None
    threshold: Tensor | None
    margin: Tensor | None

    def __init__(
        self,
        preprocessing: Preprocessing,
        network: NetworkCallable,
        loss: Literal[
            "mse", "mae", "smooth_l1", "log_rmse", "quantile", "bce", "perceptron", "cross_entropy"
        ] = "mse",
        label_smoothing: float = 0.0,
        mixup: NonNegativeFloat = 0.0,
        quantile: OpenUnitInterval = 0.5,
        class_weights: Literal["auto"] | dict[str, NonNegativeFloat] | None = None,
        calibrate: bool = False,
        threshold: ThresholdMetric | dict[str, OpenUnitInterval] | None = None,
        interval: OpenUnitInterval | None = None,
        l1: NonNegativeFloat = 0.0,
        l2: NonNegativeFloat = 0.0,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_interval: Literal["epoch", "step"] = "epoch",
        parameter_groups: ParameterGroups | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, lr_interval, parameter_groups)
        require_loss(loss, preprocessing, label_smoothing, mixup, quantile)
        self.targets = preprocessing.targets
        self.target = preprocessing.target  # the first, which says what all of them are
        classes = self.target.classes
        inputs = len(preprocessing.features)
        outputs = len(classes) if classes is not None and loss == "cross_entropy" else len(self.targets)
        self.network = self.built(network, preprocessing, outputs)
        self.loss = loss
        self.label_smoothing = label_smoothing
        self.mixup = mixup
        self.l1 = l1
        self.l2 = l2
        self.quantile = quantile
        self.example_input_array = torch.zeros(2, inputs)
        self._register_decisions(class_weights, calibrate, threshold, interval)

    def built(self, network: NetworkCallable, preprocessing: Preprocessing, outputs: int) -> nn.Module:
        """The network, behind the vectors of embedded categories if there are such columns."""
        features, embedded = len(preprocessing.features), preprocessing.embedded
        if not embedded:
            return network(features, outputs)
        embeddings = CategoryEmbeddings(embedded)
        inner = network(features - len(embedded) + embeddings.outputs, outputs)
        return EmbeddedNetwork(features, embeddings, inner)

    def _register_decisions(
        self,
        class_weights: Literal["auto"] | dict[str, float] | None,
        calibrate: bool,
        threshold: ThresholdMetric | dict[str, float] | None,
        interval: float | None,
    ) -> None:
        """Make a buffer for each decision that is asked for; what is learnt has a neutral value as yet."""
        classes = self.target.classes
        require_decisions(
            self.targets,
            self.loss,
            interval,
            class_weights=class_weights,
            calibrate=calibrate,
            threshold=threshold,
        )
        self.automatic_weights = class_weights == "auto"
        self.threshold_metric = None if isinstance(threshold, dict) else threshold
        self.threshold_class = 1
        self.interval = interval
        weights = cut = None
        if class_weights is not None and classes is not None:
            given = {} if class_weights == "auto" else by_class(class_weights, classes, "class_weights")
            weights = torch.tensor([given.get(code, 1.0) for code in range(len(classes))])
        if threshold is not None and classes is not None:
            given = by_class(threshold, classes, "threshold") if isinstance(threshold, dict) else {1: 0.5}
            ((self.threshold_class, probability),) = given.items()
            cut = torch.tensor(probability)
        self.register_buffer("class_weights", weights)
        self.register_buffer("temperature", torch.tensor(1.0) if calibrate else None)
        self.register_buffer("threshold", cut)
        margin = torch.zeros(len(self.targets)) if len(self.targets) > 1 else torch.tensor(0.0)
        self.register_buffer("margin", None if interval is None else margin)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, F) to outputs (B, O): the transformed target, or logits."""
        outputs: Tensor = self.network(features)
        return outputs

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch, or of the part of it that this process has, and the penalties."""
        features, target = batch
        features, order, weight = self.mixed(features)
        outputs = self(features)
        self.epoch_outputs.add("train", outputs, target)
        loss = self.loss_of(outputs, target)
        if order is not None:
            loss = weight * loss + (1 - weight) * self.loss_of(outputs, target[order])
        loss = mean_over_processes(loss, len(target))
        if self.l1 or self.l2:
            loss = loss + weight_penalty(self.network, self.l1, self.l2)
        return loss

    def mixed(self, features: Tensor) -> tuple[Tensor, Tensor | None, float]:
        """Mix each row of a batch (B, F) with another one, if `mixup` asks for it.

        Returns:
            The features, the number (B,) of the other row of each, None where nothing is mixed, and the
            weight, at least 0.5, of the row itself.
        """
        if not self.mixup:
            return features, None, 1.0
        drawn = float(Beta(self.mixup, self.mixup).sample())
        weight = max(drawn, 1 - drawn)
        order = torch.randperm(len(features)).to(features.device)
        return torch.lerp(features[order], features, weight), order, weight

    def on_fit_start(self) -> None:
        """Weight the classes by their training rows; refuse too few validation rows for intervals."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.automatic_weights and self.class_weights is not None:
            counts = data.targets("train").bincount(minlength=len(self.class_weights))
            self.class_weights.copy_(balanced_weights(counts))
        if self.interval is not None:
            require_rows(len(data.targets("validation")), self.interval)

    def on_fit_end(self) -> None:
        """Learn what is decided from the validation rows, with the weights that are kept."""
        if self.temperature is None and self.threshold_metric is None and self.margin is None:
            return
        outputs, target = self.validation_outputs(self.trainer.datamodule)  # type: ignore[attr-defined]
        if self.temperature is not None:
            logits = outputs if outputs.shape[1] > 1 else torch.cat([torch.zeros_like(outputs), outputs], 1)
            self.temperature.fill_(fit_temperature(logits, target))
        if self.threshold_metric is not None and self.threshold is not None:
            probability = self.predict(outputs)[:, self.threshold_class]
            self.threshold.fill_(best_threshold(probability, target, self.threshold_metric))
        if self.margin is not None and self.interval is not None:
            residuals = (target - outputs).unbind(1)
            margins = [fit_margin(column, self.interval) for column in residuals]
            self.margin.copy_(torch.tensor(margins).view_as(self.margin))

    def validation_outputs(self, data: TabularData) -> tuple[Tensor, Tensor]:
        """Outputs (N, O) for the rows by which decisions are learnt, and their prepared target (N, ...).

        Args:
            data: of the training.
        """
        features, target, *positions = data.tensors("validation")
        features = features.to(next(self.parameters()).dtype)  # of 64-true and of 16 bits
        return outputs_of(self, self.unseen_outputs, (features, *positions), EVALUATED_AT_ONCE), target

    def unseen_outputs(self, features: Tensor, *positions: Tensor) -> Tensor:
        """Outputs (B, O) for validation rows, features (B, F), by what was not trained on them."""
        outputs: Tensor = self(features)
        return outputs

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the outputs for the metrics of the epoch."""
        features, target, *positions = batch
        self.epoch_outputs.add("validation", self.unseen_outputs(features, *positions), target)

    def training_metrics_of(self, outputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The accuracy of outputs (N, O), for classes."""
        return (
            {} if self.target.classes is None else {"accuracy": self.metrics_of(outputs, target)["accuracy"]}
        )

    def predict(self, outputs: Tensor) -> Tensor:
        """Convert outputs (B, O) to values in the unit of the target (B,) or to probabilities (B, C).

        Of several targets they are values (B, T) or probabilities (B, T, 2).
        """
        return self.answers(outputs if self.temperature is None else outputs / self.temperature)

    def answers(self, outputs: Tensor) -> Tensor:
        """Convert outputs (B, O) as `predict`, without the temperature."""
        if self.target.classes is None:
            return self._joined(
                [
                    in_unit(column, target)
                    for column, target in zip(outputs.unbind(1), self.targets, strict=True)
                ]
            )
        if self.loss != "cross_entropy":
            # a perceptron decides for a side of the plane and has no probability
            hard = self.loss == "perceptron"
            positive = (outputs > 0).to(outputs.dtype) if hard else outputs.sigmoid()  # (B, T)
            return self._joined([torch.stack([1 - one, one], dim=1) for one in positive.unbind(1)])
        return outputs.softmax(dim=1)

    def _joined(self, columns: list[Tensor]) -> Tensor:
        """What each target has, (B, ...), as one tensor: (B, T, ...), or of one target as it is."""
        return torch.stack(columns, dim=1) if len(columns) > 1 else columns[0]

    def by_target(self, *tensors: Tensor) -> Iterator[tuple[Target, tuple[Tensor, ...]]]:
        """Each target with its part (B, ...) of answers, or classes, as a model of it alone has them."""
        if len(self.targets) == 1:
            yield self.target, tensors
            return
        for place, target in enumerate(self.targets):
            yield target, tuple(tensor[:, place] for tensor in tensors)

    def decide(self, probabilities: Tensor) -> Tensor:
        """The class of each row (B,) by its probabilities (B, C): by the threshold, or the most probable.

        Of several targets they are classes (B, T) by probabilities (B, T, 2).
        """
        if self.threshold is None:
            return probabilities.argmax(dim=-1)
        chosen = probabilities[:, self.threshold_class] >= self.threshold  # (B,)
        return (chosen == (self.threshold_class == 1)).long()

    def interval_of(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """The lower and upper ends, as `predict` has values, of the intervals of outputs (B, T)."""
        assert self.margin is not None
        return self.predict(outputs - self.margin), self.predict(outputs + self.margin)

    def trivial_outputs(self, target: Tensor) -> Tensor:
        """Constant outputs (1, O): the means of targets (B, T), or the shares of the classes of (B,).

        For the loss `quantile` it is that quantile of the target. Of classes of several targets, (B, T), they
        are the logarithms of the odds.
        """
        if self.loss == "quantile":
            return target.kthvalue(math.ceil(self.quantile * len(target)), dim=0).values[None]  # (1, T)
        if self.target.classes is None:
            return target.mean(dim=0, keepdim=True)  # (1, T)
        if self.loss == "cross_entropy":
            return target.bincount(minlength=len(self.target.classes)).log()[None]  # (1, C)
        counts = [codes.bincount(minlength=2) for _, (codes,) in self.by_target(target)]
        logits = torch.stack(counts, dim=1).log()  # (2, T)
        return logits[1:] - logits[:1]

    def trivial_metrics(self, train: Tensor, test: Tensor) -> dict[str, float]:
        """Metrics of the constant prediction of `trivial_outputs`.

        Args:
            train: the prepared target of the training rows.
            test: the prepared target of the test rows.
        """
        outputs = self.trivial_outputs(train).expand(len(test), -1)
        metrics = self.metrics_of_answers(self.answers(outputs), test)
        return {name: float(value) for name, value in metrics.items()}

    def loss_of(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The configured loss of outputs (B, O) and the prepared target, without penalties."""
        if self.class_weights is not None:
            # divided by the rows, not by their weights, which differ from process to process
            return (self._class_losses(outputs, target, "none") * self.class_weights[target]).mean()
        if self.loss in ("cross_entropy", "bce"):
            return self._class_losses(outputs, target, "mean")
        if self.loss == "perceptron":
            return perceptron_loss(outputs, target)
        if self.loss == "log_rmse":
            return log_rmse(self.predict(outputs), self.predict(target))
        if self.loss == "quantile":
            return quantile_loss(outputs, target, self.quantile)
        losses = {
            "mse": functional.mse_loss,
            "mae": functional.l1_loss,
            "smooth_l1": functional.smooth_l1_loss,
        }
        return losses[self.loss](outputs, target)

    def _class_losses(self, outputs: Tensor, target: Tensor, reduction: str) -> Tensor:
        if self.loss == "bce":
            wanted, logits = target.to(outputs.dtype), outputs.reshape(target.shape)
            if self.label_smoothing:
                wanted = wanted * (1 - self.label_smoothing) + self.label_smoothing / 2
            return functional.binary_cross_entropy_with_logits(logits, wanted, reduction=reduction)
        smoothing = self.label_smoothing
        return functional.cross_entropy(outputs, target, reduction=reduction, label_smoothing=smoothing)

    def metrics_of(self, outputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The metrics of outputs (B, O) and the prepared target, as `metrics_of_answers`."""
        answers = self.predict(outputs)
        codes = None if self.threshold is None else self.decide(answers)
        return self.metrics_of_answers(answers, target, codes)

    def metrics_of_answers(
        self, answers: Tensor, target: Tensor, codes: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The metrics of answers in the unit of the target and the prepared target.

        RMSE, MAE, R2 and, for targets of at least 1, log-RMSE in the unit of the target; accuracy, and macro
        precision, recall and F1 of classes. Of several targets these are means over them, and
        `<target>/rmse` and so on those of each; of classes also `all_right`, the share of rows that have
        all classes right.

        Args:
            answers: values (B,) or probabilities (B, C), of this or another model; of several targets as
                `predict` has them.
            target: prepared.
            codes: the classes that are answered (B,); None for the most probable ones.
        """
        if self.target.classes is None:
            actual = self.predict(target)
            columns = self.by_target(answers, actual)
            return self.over_targets(
                [quantity_metrics(found, right, one.at_least_one) for one, (found, right) in columns]
            )
        if codes is not None:
            return classification_metrics(functional.one_hot(codes, answers.shape[1]), target)
        metrics = self.over_targets(
            [classification_metrics(found, codes) for _, (found, codes) in self.by_target(answers, target)]
        )
        if len(self.targets) > 1:
            metrics["all_right"] = (self.decide(answers) == target).all(dim=1).float().mean()
        return metrics

    def over_targets(self, found: list[dict[str, Any]]) -> dict[str, Any]:
        """The metrics of each target by name: those of the only one, or means over all and those of each."""
        if len(found) == 1:
            return found[0]
        shared = [name for name in found[0] if all(name in metrics for metrics in found)]
        means = {name: sum(metrics[name] for metrics in found) / len(found) for name in shared}
        return means | {
            f"{target.name}/{name}": value
            for target, metrics in zip(self.targets, found, strict=True)
            for name, value in metrics.items()
        }
