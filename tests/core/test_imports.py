import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

LEFT_OUT = "sorted({'torchvision', 'scipy', 'matplotlib', 'torch._dynamo'} & set(sys.modules))"

COMPLETE = f"""
import sys
import src.cli
print({LEFT_OUT})
import torch, torchmetrics, torchvision, wandb
from lightning import LightningModule
from lightning.pytorch.utilities.compile import from_compiled, to_uncompiled
from torchmetrics.classification import BinaryAccuracy
from torchmetrics.detection import IntersectionOverUnion
from torchmetrics.functional.audio import permutation_invariant_training
from torchmetrics.functional.detection import intersection_over_union
from torchmetrics.functional.image import arniqa
from torchmetrics.image import LearnedPerceptualImagePatchSimilarity

boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
print(intersection_over_union(boxes, boxes).item())
accuracy = BinaryAccuracy()
accuracy.update(torch.tensor([1.0, 0.0]), torch.tensor([1, 1]))
print(type(accuracy.plot()[0]).__name__)
assert isinstance(IntersectionOverUnion(), torchmetrics.Metric)
model = LightningModule()
compiled = torch.compile(model)
assert not isinstance(model, type(compiled))
assert to_uncompiled(compiled) is model
assert to_uncompiled(from_compiled(compiled)) is model
"""

WITHOUT_PRIVATE_PARTS = f"""
import sys
import src
from lightning_utilities.core import imports
del imports.lazy_import  # as another version might
import lightning, torchmetrics
print({LEFT_OUT})
lightning.Trainer, torchmetrics.functional.detection.intersection_over_union
"""


@pytest.fixture(scope="module")
def outputs(python: Callable[..., Any]) -> list[list[str]]:
    """The lines that the two programs print, which run side by side."""
    with ThreadPoolExecutor() as pool:
        programs = (COMPLETE, WITHOUT_PRIVATE_PARTS)
        return [
            done.stdout.splitlines()
            for done in pool.map(lambda text: python("-c", text, cwd=ROOT, MPLBACKEND="agg"), programs)
        ]


def test_imports_leave_out_packages_that_work_when_they_are_needed(outputs: list[list[str]]) -> None:
    assert outputs[0] == ["[]", "1.0", "Figure"]


def test_another_version_of_the_packages_is_imported_in_the_ordinary_way(outputs: list[list[str]]) -> None:
    assert outputs[1] == ["['matplotlib', 'scipy', 'torch._dynamo', 'torchvision']"]


def test_a_missing_environment_is_explained_in_one_line(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for module in ("src.cli", "pipelines.prepare"):
        # -S: without site-packages
        done = subprocess.run(
            [sys.executable, "-S", "-m", module],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert "run: make setup, then: . .venv/bin/activate" in done.stderr


def test_the_older_name_of_lightning_gives_the_same_classes(python: Callable[..., Any]) -> None:
    program = (
        "import src\n"
        "import pytorch_lightning as pl\n"
        "from pytorch_lightning.callbacks import ModelCheckpoint\n"
        "import lightning.pytorch\n"
        "import lightning.pytorch.callbacks as callbacks\n"
        "print(pl is lightning.pytorch, ModelCheckpoint is callbacks.ModelCheckpoint)\n"
        "print(lightning.pytorch.__spec__.name, callbacks.__spec__.name)\n"
    )
    done = python("-c", program, cwd=ROOT)
    assert done.stdout == "True True\nlightning.pytorch lightning.pytorch.callbacks\n"
