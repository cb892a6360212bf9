"""Prediction: the classes of raw images, read in chunks.

N images, C channels, H height, W width, K classes
"""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from src.bundle.progress import prediction_progress
from src.bundle.spreadsheets import as_text
from src.core.atomic import file_written_whole
from src.core.errors import ConfigurationError
from src.images.data import images_at_once
from src.images.figures import feature_maps as maps_of
from src.images.figures import plot_feature_maps
from src.images.model import ImageModel
from src.images.pictures import Pixels, read_picture, upright
from src.images.preprocessing import Preprocessing, from_picture, read_inputs

logger = logging.getLogger(__name__)


def write_classes(
    model: ImageModel,
    preprocessing: Preprocessing,
    input: Path,
    output: Path = Path("predictions.csv"),
    feature_maps: Path | None = None,
    unreadable: Literal["refuse", "skip"] = "refuse",
    escape_formulas: bool = False,
    all_probabilities: bool = False,
) -> int:
    """Write the name of each image and its answer to a CSV file.

    An answer is the class and its probability, the number of a regression, or the probability of each label.

    Args:
        model: trained, in evaluation mode.
        preprocessing: of its training data.
        input: a picture (PNG, JPEG, GIF, WebP, BMP, TIFF, PPM), a folder of them, an idx file or a CSV
            file of pixels.
        output: the CSV file to write.
        feature_maps: a PNG file to write, with the feature maps of the first image.
        unreadable: pictures of a folder that cannot be read: refuse, or skip (they get no row).
        escape_formulas: put an apostrophe before names and classes that a spreadsheet would compute.
        all_probabilities: add a column `probability_<class>` for each class.

    Returns:
        The number of images.

    Raises:
        ConfigurationError: `all_probabilities` of a regression.
        DataError: as `read_inputs`.
    """
    columns = _columns(preprocessing, all_probabilities)
    done = adapted = 0
    first: Pixels | None = None
    with file_written_whole(output) as file, prediction_progress() as advance:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for images, names, different in read_inputs(
            input, preprocessing, images_at_once(*preprocessing.shape[1:]), unreadable == "skip"
        ):
            first = images[:1] if first is None else first
            answers = _answers(model, preprocessing, images, all_probabilities)
            for name, *answer in zip(names, *answers, strict=True):
                row = [name, *(_as_text(part, preprocessing.task) for part in answer)]
                texts = [as_text(text) for text in row[:-1]] if escape_formulas else row[:-1]
                writer.writerow([*texts, row[-1]])
            done += len(images)
            adapted += different
            advance(len(images))
    if adapted:
        channels, height, width = preprocessing.shape
        kind = "grey" if channels == 1 else "colour"
        logger.warning(
            "%s: %d of %d images were converted to %d x %d and %s, as in training",
            *(input, adapted, done, width, height, kind),
        )
    if feature_maps is not None and first is not None:
        scaled = model.scaled(torch.from_numpy(first).to(model.device))
        plot_feature_maps(first[0], maps_of(model.network, scaled), feature_maps)
    return done


def _as_text(answer: str | float, task: str) -> str:
    """A class as it is, a probability with six digits, a number with the digits that tell it as float32."""
    if isinstance(answer, str):
        return answer
    return str(np.float32(answer)) if task == "regression" else f"{answer:.6f}"


@torch.inference_mode()
def probabilities(model: ImageModel, images: Pixels) -> Tensor:
    """Images (N, C, H, W), uint8, to class probabilities (N, K), or the numbers (N,) of a regression."""
    return model.predict(model(torch.tensor(images, device=model.device))).cpu()


def _columns(preprocessing: Preprocessing, all_probabilities: bool) -> list[str]:
    """The names of the columns of predictions.

    Raises:
        ConfigurationError: all probabilities of a regression.
    """
    if all_probabilities and preprocessing.task == "regression":
        raise ConfigurationError("all_probabilities: the model predicts a number, without classes")
    names = [*preprocessing.prediction_columns]
    if all_probabilities and preprocessing.task == "classification":
        names += [f"probability_{name}" for name in preprocessing.classes]
    return names


def _answers(
    model: ImageModel, preprocessing: Preprocessing, images: Pixels, all_probabilities: bool
) -> list[list[Any]]:
    """The columns of answers after the first: class and probability, a number, or those of each label.

    Args:
        model: trained.
        preprocessing: of its training data.
        images: (N, C, H, W).
        all_probabilities: add those of all classes.
    """
    found = probabilities(model, images)
    if preprocessing.task != "classification":
        return found.reshape(len(found), -1).T.tolist()
    likeliest, codes = found.max(dim=1)
    answers = [[preprocessing.classes[code] for code in codes.tolist()], likeliest.tolist()]
    answers = answers[: len(preprocessing.prediction_columns) - 1]
    return [*answers, *found.T.tolist()] if all_probabilities else answers


WRITERS = {ImageModel: write_classes}


def predict_pictures(
    model: ImageModel,
    preprocessing: Preprocessing,
    pictures: Sequence[Image.Image | Path | str],
    all_probabilities: bool = False,
) -> pd.DataFrame:
    """Find the classes or numbers of pictures in memory or in files, as `write_classes` does.

    Args:
        model: trained, in evaluation mode.
        preprocessing: of its training data.
        pictures: of Pillow, or paths of picture files.
        all_probabilities: as in `write_classes`.

    Returns:
        The columns of the file of predictions; a picture without a file has its number, from 1, as its name.

    Raises:
        ConfigurationError: `all_probabilities` of a regression.
        DataError: a picture cannot be read.
    """
    columns = _columns(preprocessing, all_probabilities)
    found = []
    size = images_at_once(*preprocessing.shape[1:])
    for start in range(0, len(pictures), size):
        part = pictures[start : start + size]
        images = np.stack(
            [from_picture(_opened(picture, preprocessing), preprocessing)[0] for picture in part]
        )
        names = [
            str(number) if isinstance(picture, Image.Image) else Path(picture).name
            for number, picture in enumerate(part, start + 1)
        ]
        found += list(zip(names, *_answers(model, preprocessing, images, all_probabilities), strict=True))
    return pd.DataFrame(found, columns=columns)


def _opened(picture: Image.Image | Path | str, preprocessing: Preprocessing) -> Image.Image:
    if isinstance(picture, Image.Image):
        return upright(picture, preprocessing.decoding)
    return read_picture(Path(picture), preprocessing.decoding)


PREDICTORS = {ImageModel: predict_pictures}
