"""The sample images."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from src.images.preprocessing import read_idx
from src.images.sample import write_sample

SAMPLES = Path(__file__).parents[2] / "data/samples"


@pytest.mark.tasks("fashion_mnist")
def test_the_garments_are_files_of_fashion_mnist(tmp_path: Path) -> None:
    write_sample(SAMPLES / "fashion_mnist.yaml", tmp_path)
    for prefix, count in (("train", 6000), ("t10k", 1000)):
        compressed = (tmp_path / f"{prefix}-images-idx3-ubyte.gz").read_bytes()
        assert compressed[:10].hex() == "1f8b08000000000000ff"  # without name, time or operating system
        header = bytes.fromhex("00000803") + np.array([count, 28, 28], ">u4").tobytes()
        assert gzip.decompress(compressed)[:16] == header
        labels = read_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz")
        assert np.bincount(labels).tolist() == [count // 10] * 10
        assert labels[:10].tolist() != sorted(labels[:10])
    pixels = read_idx(tmp_path / "train-images-idx3-ubyte.gz")
    assert len({image.tobytes() for image in pixels}) == 6000


@pytest.mark.tasks("digits")
def test_the_digits_are_those_of_scikit_learn() -> None:
    path = SAMPLES / "digits/train.csv"
    digits = load_digits()
    assert path.read_text().split("\n", 1)[0] == ",".join(["label", *(f"pixel{i}" for i in range(64))])
    values = np.loadtxt(path, delimiter=",", skiprows=1)
    assert np.array_equal(values, np.column_stack([digits.target, digits.data]))
