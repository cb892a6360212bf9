"""Random changes of training images: each image of a batch draws its own, all at once and on their device.

B batch, C channels, H height, W width, K classes
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from src.core.errors import ConfigurationError

ERASED = (0.02, 0.2)  # shares of the area, as those of the proportions below torchvision's
PROPORTIONS = (0.3, 3.3)
CROPPED = (3 / 4, 4 / 3)
WHITE = 255
GREY = (0.299, 0.587, 0.114)  # of red, green and blue


@dataclass
class Augmentation:
    """Random changes of training images, in this order; 0 turns one off.

    They draw from torch's generator, which is seeded for each batch. torchvision's transforms draw once for
    a whole batch; these draw for each image.

    Args:
        flip: probability of a horizontal flip.
        crop: pixels of black padding before a random crop to the original size.
        rotation: largest angle in degrees, in either direction; what was outside is black.
        resized_crop: smallest share of the area in a random crop that is enlarged to the original size, with
            proportions from 3:4 to 4:3, such as 0.25.
        colour: largest change of brightness, contrast and saturation, such as 0.3 for factors of 0.7 to 1.3.
        erasing: probability that a random rectangle (2 to 20 % of the area) becomes black.
        noise: standard deviation of Gaussian noise, for values from 0 (black) to 1 (white).
        trivial: whether each image gets one of torchvision's operations, of a random strength
            (TrivialAugment: Müller and Hutter 2021). It comes first, and image by image, which takes time.
        mixup: of a Beta distribution, the shares of two images in their mean, for example 0.2; by
            torchvision, one draw a batch, as for cutmix. The training metrics take the first of both classes.
        cutmix: of a Beta distribution, the area of a rectangle from another image, for example 1.0. With
            mixup, each batch draws one of both.

    Raises:
        ConfigurationError: a value is out of range.
    """

    flip: float = 0.0
    crop: int = 0
    rotation: float = 0.0
    resized_crop: float = 0.0
    colour: float = 0.0
    erasing: float = 0.0
    noise: float = 0.0
    trivial: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            most = 1 if name in ("flip", "resized_crop", "colour", "erasing") else math.inf
            if not 0 <= value <= most:
                bound = f"0 to {most}" if most == 1 else "0 or more"
                raise ConfigurationError(f"model.augmentation.{name}: {value}, expected {bound}")

    def changed(self, images: Tensor, brightest: int) -> Tensor:
        """Change images (B, C, H, W) uint8 with values from 0 to `brightest`; the result may be float32."""
        # with autocast, the coordinates of pixels would be rounded to bfloat16
        with torch.autocast(images.device.type, enabled=False):
            return self._changed(images, brightest)

    def _changed(self, images: Tensor, brightest: int) -> Tensor:
        if self.trivial:
            images = _trivially_changed(images, brightest)
        if self.flip or self.crop:
            images = self._moved(images)
        if self.rotation or self.resized_crop:
            images = self._sampled(images.float())
        if self.colour:
            images = self._coloured(images.float(), brightest)
        if self.erasing:
            images = self._erased(images)
        if self.noise:
            noise = torch.randn(images.shape, device=images.device)
            images = (images + self.noise * brightest * noise).clamp(0, brightest)
        return images

    def mixed(self, images: Tensor, target: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Mix pairs of images.

        Args:
            images: (B, C, H, W), scaled.
            target: classes (B,).
            classes: K.

        Returns:
            The images, and the shares of the classes (B, K); or the target as it is if nothing is mixed.
        """
        kinds = [
            kind(alpha=alpha, num_classes=classes)
            for kind, alpha in ((v2.MixUp, self.mixup), (v2.CutMix, self.cutmix))
            if alpha
        ]
        if kinds:
            images, target = v2.RandomChoice(kinds)(images, target)
        return images, target

    def _moved(self, images: Tensor) -> Tensor:
        """Flip and crop by taking other rows and columns; the values stay as they are."""
        number, _, height, width = images.shape
        rows = torch.arange(height, device=images.device).expand(number, height)
        columns = torch.arange(width, device=images.device).expand(number, width)
        if self.flip:
            mirrored = torch.rand(number, 1, device=images.device) < self.flip
        if self.crop:
            shape = (2, number, 1)
            down, right = torch.randint(-self.crop, self.crop + 1, shape, device=images.device)
            rows, columns = rows + down, columns + right
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        if self.flip:
            columns = torch.where(mirrored, width - 1 - columns, columns)
        each = torch.arange(number, device=images.device)[:, None, None]
        taken = images[each, :, rows[:, :, None], columns[:, None]]  # (B, H, W, C)
        return (taken * inside[..., None]).permute(0, 3, 1, 2)

    def _sampled(self, images: Tensor) -> Tensor:
        """Rotate and enlarge by bilinear interpolation; coordinates are from -1 to 1."""
        number, _, height, width = images.shape
        sides, middle = torch.ones(2, number), torch.zeros(2, number)  # along x and y
        angle = math.radians(self.rotation) * (2 * torch.rand(number) - 1)
        if self.resized_crop:
            area = self.resized_crop + (1 - self.resized_crop) * torch.rand(number)
            log_low, log_high = map(math.log, CROPPED)
            root = ((log_low + (log_high - log_low) * torch.rand(number)) / 2).exp()
            sides = (area.sqrt() * torch.stack([root, 1 / root])).clamp(max=1)
            middle = (1 - sides) * (2 * torch.rand(2, number) - 1)
        cosine, sine = angle.cos(), angle.sin()
        along_x = torch.stack([sides[0] * cosine, -sides[0] * sine * height / width, middle[0]], dim=1)
        along_y = torch.stack([sides[1] * sine * width / height, sides[1] * cosine, middle[1]], dim=1)
        matrices = torch.stack([along_x, along_y], dim=1).to(images.device)  # (B, 2, 3)
        grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, align_corners=False)

    def _coloured(self, images: Tensor, brightest: int) -> Tensor:
        """Change brightness, contrast and saturation, as torchvision's ColorJitter defines them."""
        factors = 1 + self.colour * (2 * torch.rand(len(images), 3, 1, 1, device=images.device) - 1)
        brightness, contrast, saturation = factors.chunk(3, dim=1)
        images = (images * brightness).clamp(max=brightest)
        mean = _grey(images).mean(dim=(1, 2, 3), keepdim=True)
        images = (mean + contrast * (images - mean)).clamp(0, brightest)
        if images.shape[1] == len(GREY):
            grey = _grey(images)
            images = (grey + saturation * (images - grey)).clamp(0, brightest)
        return images

    def _erased(self, images: Tensor) -> Tensor:
        """Make a rectangle of some images black."""
        number, _, height, width = images.shape
        device = images.device
        chosen, area, proportion, x, y = torch.rand(5, number, 1, device=device)
        area = (ERASED[0] + (ERASED[1] - ERASED[0]) * area) * height * width
        low, high = map(math.log, PROPORTIONS)
        root = ((low + (high - low) * proportion) / 2).exp()
        tall, wide = (area.sqrt() * root).round(), (area.sqrt() / root).round()
        tall, wide = tall.clamp(1, height - 1 or 1), wide.clamp(1, width - 1 or 1)
        top, left = (y * (height - tall + 1)).floor(), (x * (width - wide + 1)).floor()
        rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
        black = ((rows >= top) & (rows < top + tall))[:, :, None]
        black = black & ((columns >= left) & (columns < left + wide))[:, None]
        black &= (chosen < self.erasing)[:, :, None]
        return images.masked_fill(black[:, None], 0)


def _trivially_changed(images: Tensor, brightest: int) -> Tensor:
    """TrivialAugment of each image, in the range of values that torchvision expects."""
    scale = WHITE / brightest
    change = v2.TrivialAugmentWide()
    whole = images if scale == 1 else (images.float() * scale).round().to(torch.uint8)
    changed = torch.stack([change(image) for image in whole])
    return changed if scale == 1 else changed.float() / scale


def _grey(images: Tensor) -> Tensor:
    """The brightness (B, 1, H, W) of images (B, C, H, W)."""
    if images.shape[1] != len(GREY):
        return images
    weights = torch.tensor(GREY, device=images.device)[:, None, None]
    return (images * weights).sum(dim=1, keepdim=True)
