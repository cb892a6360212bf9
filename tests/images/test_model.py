import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning import LightningModule
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import adjust_brightness, adjust_contrast, adjust_saturation

from src.bundle.bundle import weights_of
from src.core.errors import ConfigurationError
from src.images.augmentation import Augmentation
from src.images.model import ImageModel
from src.images.networks import LeNet
from src.images.preprocessing import Preprocessing


def preprocessing(shape: tuple[int, int, int] = (1, 2, 2), classes: int = 2, **changes: Any) -> Preprocessing:
    unscaled = Preprocessing(
        shape=shape,
        brightest=255,
        mean=[],
        standard_deviation=[],
        scaling="none",
        center=[[[0.0]]],
        scale=[[[1.0]]],
        classes=[f"class {number}" for number in range(classes)],
    )
    return replace(unscaled, **changes)


def passing_on(**changes: Any) -> ImageModel:
    """A model whose logits are the scaled pixels."""
    return ImageModel(preprocessing(**changes), lambda shape, classes: nn.Flatten())


@pytest.mark.parametrize(
    ("center", "scale", "expected"),
    [
        ([[[10.0]]], [[[5.0]]], [-2, 0, 2, 4]),
        ([[[0.0, 10.0], [20.0, 30.0]]], [[[1.0, 2.0], [5.0, 10.0]]], [0, 0, 0, 0]),
    ],
    ids=["one number", "each pixel"],
)
def test_pixels_are_scaled_inside_the_model(center: Any, scale: Any, expected: list[float]) -> None:
    images = torch.tensor([[[[0, 10], [20, 30]]]], dtype=torch.uint8)
    assert passing_on(center=center, scale=scale)(images).tolist() == [expected]


def test_each_channel_has_its_own_scale() -> None:
    model = passing_on(shape=(3, 1, 1), center=[[[0.0]], [[1.0]], [[2.0]]], scale=[[[1.0]], [[2.0]], [[4.0]]])
    assert model(torch.full((1, 3, 1, 1), 10, dtype=torch.uint8)).tolist() == [[10, 4.5, 2]]


def test_a_network_without_an_output_for_each_class_is_refused_before_the_training() -> None:
    model = passing_on(shape=(1, 2, 3))
    with pytest.raises(ConfigurationError, match=r"network: Flatten gives \(2, 6\) .* expected \(2, 2\)"):
        model.setup("fit")


def test_flip_averaging_is_the_mean_of_the_probabilities_of_both_images() -> None:
    model = passing_on(shape=(1, 1, 2), scale=[[[10.0]]])
    images = torch.tensor([[[[5, 2]]], [[[1, 8]]]], dtype=torch.uint8)
    both = (model.predict(model(images)) + model.predict(model(images.flip(3)))) / 2
    model.flip_averaging = True
    assert torch.allclose(model.predict(model(images)), both)
    assert torch.allclose(both, torch.full((2, 2), 0.5))
    loss = model.loss_of(model(images), torch.tensor([0, 1]))
    assert loss.item() == pytest.approx(math.log(2))


def test_shift_averaging_is_the_mean_over_five_places() -> None:
    model = passing_on(shape=(1, 2, 2), scale=[[[10.0]]])
    image = torch.tensor([[[[1, 2], [3, 4]]]], dtype=torch.uint8)
    # the image, and moved down to the right, down to the left, up to the right, up to the left
    places = [[1, 2, 3, 4], [0, 0, 0, 1], [0, 0, 2, 0], [0, 3, 0, 0], [4, 0, 0, 0]]
    mirrored = [[b, a, d, c] for a, b, c, d in places]
    for flip, seen in ((False, places), (True, places + mirrored)):
        model.flip_averaging, model.shift_averaging = flip, 1
        expected = (torch.tensor(seen) / 10).softmax(dim=1).mean(dim=0)
        assert torch.allclose(model.predict(model(image))[0], expected)


def test_shifts_are_smaller_than_the_images() -> None:
    with pytest.raises(ConfigurationError, match=r"shift_averaging: 2, expected less .* 2 x 3"):
        ImageModel(preprocessing((1, 2, 3)), lambda shape, classes: nn.Flatten(), shift_averaging=2)


LOGITS = torch.tensor([[[[5, 2]]], [[[1, 8]]], [[[3, 1]]]], dtype=torch.uint8)


def test_the_loss_is_cross_entropy() -> None:
    model = passing_on(shape=(1, 1, 2), scale=[[[10.0]]])
    loss = model.training_step((LOGITS, torch.tensor([0, 1, 1])), 0)
    expected = sum(math.log1p(math.exp(-gap)) for gap in (0.3, 0.7, -0.2)) / 3
    assert loss.item() == pytest.approx(expected)


def test_metrics_and_probabilities() -> None:
    model = passing_on(shape=(1, 1, 2), scale=[[[10.0]]])
    outputs = model(LOGITS)
    metrics = model.metrics_of(outputs, torch.tensor([0, 1, 1]))
    assert {name: round(value.item(), 6) for name, value in metrics.items()} == {
        "accuracy": round(2 / 3, 6),
        "precision": 0.75,
        "recall": 0.75,
        "f1": round(2 / 3, 6),
    }
    assert model.predict(outputs)[0].tolist() == pytest.approx([0.574443, 0.425557], abs=1e-6)


def test_trivial_outputs_are_the_class_frequencies() -> None:
    model = passing_on()
    logits = model.trivial_outputs(torch.tensor([1, 0, 1, 1]))
    assert logits.softmax(dim=1).tolist() == [pytest.approx([0.25, 0.75])]
    assert model.trivial_metrics(torch.tensor([1, 0, 1]), torch.tensor([1, 1, 1, 0]))["accuracy"] == 0.75


def test_training_accuracy_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    model = passing_on(shape=(1, 1, 2))
    rows: list[dict[str, Tensor]] = []
    monkeypatch.setattr(
        "src.training.supervised.log_epoch", lambda model, stage, metrics: rows.append(metrics)
    )
    model.training_step((LOGITS[:1], torch.tensor([0])), 0)
    model.training_step((LOGITS[1:], torch.tensor([1, 1])), 1)
    model.on_train_epoch_end()
    assert rows[0]["accuracy"].item() == pytest.approx(2 / 3)


class Remembering(nn.Module):
    """A network that keeps its input."""

    def __init__(self, *_: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen = torch.empty(0)

    def forward(self, images: Tensor) -> Tensor:
        self.seen = images.detach()
        return images.flatten(1)[:, :2] * self.weight


def augmented(images: Tensor, seed: int = 0, **parts: Any) -> Tensor:
    """The input of the network in a training step."""
    shape = (images.shape[1], images.shape[2], images.shape[3])
    model = ImageModel(preprocessing(shape), Remembering, Augmentation(**parts))
    torch.manual_seed(seed)
    model.training_step((images, torch.zeros(len(images), dtype=torch.int64)), 0)
    return model.network.seen  # type: ignore[return-value]


def some_images(count: int = 64, side: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, 256, (count, 1, side, side), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("parts", [{"resized_crop": 0.3}, {"rotation": 30.0}, {"noise": 0.1, "colour": 0.3}])
def test_augmentation_is_of_float32_whatever_the_precision(parts: dict[str, Any]) -> None:
    images = some_images(8, 64)
    plain = Augmentation(**parts)
    torch.manual_seed(0)
    expected = plain.changed(images, 255)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        found = plain.changed(images, 255)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_without_augmentation_images_are_unchanged() -> None:
    images = some_images()
    assert torch.equal(augmented(images).round(), images.float())


def test_flip_mirrors() -> None:
    images = some_images()
    torch.testing.assert_close(augmented(images, flip=1.0), images.flip(3).float())
    flipped = (augmented(images, flip=0.5) - images).abs().amax(dim=(1, 2, 3)) > 1
    assert 0 < flipped.sum() < len(images)


def test_the_loss_of_a_training_step_is_that_of_the_augmented_images() -> None:
    model, target = passing_on(shape=(1, 1, 2), scale=[[[10.0]]]), torch.tensor([0, 1, 1])
    model.augmentation = Augmentation(flip=1.0)
    loss = model.training_step((LOGITS, target), 0)
    assert loss.item() == pytest.approx(model.loss_of(model(LOGITS.flip(3)), target).item())
    assert loss.item() != pytest.approx(model.loss_of(model(LOGITS), target).item())


def test_a_network_may_bring_its_own_loss() -> None:
    class Squared(nn.Flatten):
        def loss(self, logits: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
            return (logits**2).mean() + label_smoothing

    model = ImageModel(preprocessing(), lambda shape, classes: Squared(), label_smoothing=0.5)
    assert model.loss_of(torch.tensor([[1.0, 3.0]]), torch.tensor([0])).item() == 5.5


def test_crop_moves_each_image_by_at_most_its_border() -> None:
    images = some_images()
    moved = augmented(images, crop=2)
    padded = nn.functional.pad(images, (2, 2, 2, 2)).float()
    windows = padded.unfold(2, 8, 1).unfold(3, 8, 1)[:, 0].flatten(1, 2)  # (B, 25, 8, 8)
    found = ((windows - moved).abs() < 0.5).all(dim=(2, 3))  # (B, 25)
    assert found.any(dim=1).all()
    assert len({int(row.nonzero()[0]) for row in found}) > 3


def test_trivial_augmentation_is_that_of_torchvision_in_the_range_of_the_images() -> None:
    images = torch.randint(0, 17, (32, 3, 8, 8), dtype=torch.uint8)  # 16 is white, as in scanned digits
    torch.manual_seed(5)
    changed = Augmentation(trivial=True).changed(images, 16)
    torch.manual_seed(5)
    expected = [v2.TrivialAugmentWide()((image * 15.9375).round().to(torch.uint8)) for image in images]
    torch.testing.assert_close(changed, torch.stack(expected) / 15.9375)
    assert not torch.equal(changed.round(), images.float())


def test_erasing_blackens_a_rectangle() -> None:
    images = some_images(side=20)
    erased = (augmented(images, erasing=1.0) == 0).sum(dim=(1, 2, 3))
    assert (erased > 0).all()
    assert (erased <= 0.25 * 400).all()


def test_rotation_turns_and_noise_stays_in_range() -> None:
    images = some_images()
    turned = augmented(images, rotation=30.0)
    assert turned.shape == images.shape
    assert not torch.allclose(turned, images.float())
    noisy = augmented(images, noise=0.2)
    assert ((noisy - images).abs() > 1).float().mean() > 0.5
    assert noisy.min() >= 0
    assert noisy.max() <= 255


EVERYTHING = {
    "flip": 0.5,
    "crop": 2,
    "rotation": 10.0,
    "resized_crop": 0.5,
    "colour": 0.3,
    "erasing": 0.5,
    "noise": 0.1,
    "trivial": True,
}


@pytest.mark.parametrize("parts", [*({name: value} for name, value in EVERYTHING.items()), EVERYTHING])
def test_each_image_draws_its_own_augmentation(parts: dict[str, Any]) -> None:
    images = some_images(1).expand(32, -1, -1, -1)
    first = augmented(images, seed=1, **parts)
    assert torch.equal(augmented(images, seed=1, **parts), first)
    assert not torch.equal(augmented(images, seed=2, **parts), first)
    different = len({image.numpy().tobytes() for image in first})
    assert different >= {"flip": 2, "crop": 10, "erasing": 10, "trivial": 10}.get(next(iter(parts)), 32)
    assert first.min() >= 0
    assert first.max() <= 255


def test_rotation_by_a_quarter_turns_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    images = some_images(2, side=6)
    monkeypatch.setattr(torch, "rand", torch.ones)
    turned = augmented(images, rotation=90.0)
    torch.testing.assert_close(turned, images.float().rot90(1, (2, 3)), atol=1e-2, rtol=0)


def test_a_resized_crop_is_a_part_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    ramp = torch.arange(0, 160, 10, dtype=torch.uint8).expand(4, 1, 16, 16)
    parts = augmented(ramp, resized_crop=0.25)
    steps = parts.diff(dim=3)[..., 2:-2]
    assert (steps > 10 * 0.4).all()
    assert (steps < 10 * 1.01).all()
    assert len({round(float(step), 3) for step in steps[:, 0, 8, 3]}) == 4


def test_colour_changes_as_that_of_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randint(0, 256, (1, 3, 5, 5), dtype=torch.uint8)
    monkeypatch.setattr(torch, "rand", torch.ones)  # the largest factors
    found = augmented(images, colour=0.3) / 255
    expected = images / 255
    for adjust in (adjust_brightness, adjust_contrast, adjust_saturation):
        expected = adjust(expected, 1.3)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("parts", [{"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_mixed_images_have_the_shares_of_both_classes(parts: dict[str, float]) -> None:
    torch.manual_seed(3)
    images = torch.stack([torch.zeros(1, 20, 20), torch.ones(1, 20, 20)])
    mixed, shares = Augmentation(**parts).mixed(images, torch.tensor([0, 1]), 3)  # type: ignore[arg-type]
    assert shares.shape == (2, 3)
    assert shares.sum(dim=1).tolist() == pytest.approx([1, 1])
    assert 0 < float(shares[0, 1]) < 1
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), shares[:, 1])


def test_mixed_classes_are_learnt_and_refused_for_a_loss_of_ones_own() -> None:
    shape = preprocessing((1, 8, 8))
    model = ImageModel(shape, Remembering, Augmentation(mixup=1.0), label_smoothing=0.1)
    loss = model.training_step((some_images(4), torch.tensor([0, 1, 0, 1])), 0)
    assert loss.item() == pytest.approx(math.log(2))  # of logits that are 0

    class Own(Remembering):
        def loss(self, *_: Any) -> None:
            pass

    for settings in ({"augmentation": Augmentation(cutmix=1.0)}, {"class_weights": "auto"}):
        with pytest.raises(ConfigurationError, match=r"Own has a loss of its own"):
            ImageModel(shape, Own, **settings)  # type: ignore[arg-type]


def test_the_losses_of_a_class_are_weighted() -> None:
    model = ImageModel(
        preprocessing((1, 1, 2), scale=[[[10.0]]]),
        lambda shape, classes: nn.Flatten(),
        class_weights={"class 1": 3.0},
    )
    outputs, target = model(LOGITS), torch.tensor([0, 1, 1])
    losses = [math.log1p(math.exp(-gap)) for gap in (0.3, 0.7, -0.2)]
    expected = (losses[0] + 3 * losses[1] + 3 * losses[2]) / 3
    assert model.loss_of(outputs, target).item() == pytest.approx(expected)
    shares = nn.functional.one_hot(target, 2).float()
    assert model.loss_of(outputs, shares).item() == pytest.approx(expected)
    model.label_smoothing = 0.1
    assert model.loss_of(outputs, shares).item() == pytest.approx(model.loss_of(outputs, target).item())
    digits: Any = {1: 3.0}  # as YAML reads {1: 3}
    numbered = replace(preprocessing(), classes=["0", "1"])
    weights = ImageModel(numbered, lambda shape, classes: nn.Flatten(), class_weights=digits).class_weights
    assert weights is not None
    assert weights.tolist() == [1, 3]
    with pytest.raises(ConfigurationError, match=r"class_weights: found cat, expected one of class 0, class"):
        ImageModel(preprocessing(), lambda shape, classes: nn.Flatten(), class_weights={"cat": 1.0})


def test_the_weights_of_mixed_classes_are_those_of_each_share() -> None:
    model = ImageModel(
        preprocessing((1, 1, 2)), lambda shape, classes: nn.Flatten(), class_weights={"class 1": 3.0}
    )
    outputs = torch.tensor([[0.2, 0.8], [0.5, 0.5]]).log()
    shares = torch.tensor([[0.75, 0.25], [0.0, 1.0]])
    expected = -(0.75 * math.log(0.2) + 0.25 * 3 * math.log(0.8) + 3 * math.log(0.5)) / 2
    assert model.loss_of(outputs, shares).item() == pytest.approx(expected)
    unmixed = [model.loss_of(outputs[:1], torch.tensor([code])).item() for code in (0, 1)]
    mixed = model.loss_of(outputs[:1], shares[:1]).item()
    assert mixed == pytest.approx(0.75 * unmixed[0] + 0.25 * unmixed[1])


def test_many_classes_have_a_top_5_accuracy() -> None:
    model = passing_on(shape=(1, 1, 20), classes=20)
    outputs = torch.arange(20.0).repeat(4, 1)
    metrics = model.metrics_of(outputs, torch.tensor([19, 15, 14, 0]))
    assert (metrics["accuracy"].item(), metrics["top5_accuracy"].item()) == (0.25, 0.5)
    assert "top5_accuracy" not in passing_on().metrics_of(outputs[:, :2], torch.tensor([0, 1, 1, 0]))


@pytest.mark.parametrize(("name", "value"), [("flip", 1.5), ("crop", -1), ("resized_crop", 2.0)])
def test_augmentation_out_of_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=rf"model\.augmentation\.{name}: {value}, expected 0 "):
        Augmentation(**{name: value})  # type: ignore[arg-type]


def test_images_are_not_augmented_in_evaluation() -> None:
    images = some_images()
    model = ImageModel(preprocessing((1, 8, 8)), Remembering, Augmentation(flip=1.0))  # type: ignore[arg-type]
    model.validation_step((images, torch.zeros(len(images), dtype=torch.int64)), 0)
    assert torch.equal(model.network.seen, images.float())  # type: ignore[arg-type]


def configured(**settings: Any) -> ImageModel:
    """A model built from a configuration, as the command line builds it."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "model", skip={"preprocessing"})
    network = {"class_path": "src.images.networks.LeNet", "init_args": {"pooling": "max"}}
    values = {"class_path": "src.images.model.ImageModel", "init_args": {"network": network, **settings}}

    def build(model: type[ImageModel], *args: Any, **kwargs: Any) -> ImageModel:
        return model(*args, preprocessing=preprocessing((1, 28, 28), 10), **kwargs)

    parsed = parser.parse_object({"model": values})
    return parser.instantiate(parsed, instantiators=[(build, ImageModel, True)]).model


def test_a_configuration_names_network_and_augmentation() -> None:
    model = configured(augmentation={"flip": 0.5, "crop": 2})
    assert isinstance(model.network, LeNet)
    assert any(isinstance(layer, nn.MaxPool2d) for layer in model.network)
    assert model.augmentation == Augmentation(flip=0.5, crop=2)
    assert configured().augmentation == Augmentation()


@pytest.mark.parametrize(
    "wrong", [{"augmentation": {"flop": 1}}, {"network": {"class_path": "src.images.networks.LeNot"}}]
)
def test_unknown_keys_are_rejected(wrong: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"flop|LeNot"):
        configured(**wrong)


def test_weights_are_saved_and_loaded(tmp_path: Path) -> None:
    model, other = configured().eval(), configured().eval()
    weights = weights_of(model)
    assert not {"center", "scale"} & set(weights)
    # convolutions are channels last; write_bundle makes them contiguous, too
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, tmp_path / "model.safetensors")
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    images = some_images(4, 28)
    assert torch.equal(other(images), model(images))
