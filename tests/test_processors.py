"""Networks and a preparation give the same bytes on emulated processors of AMD and Intel as on this one."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EMULATOR = "qemu-x86_64"
PROCESSORS = ("EPYC", "Haswell-noTSX", "Skylake-Server")
PROGRAM = """
import src, hashlib, json, sys
from pathlib import Path
import torch
from torch import nn
from src.bundle.bundle import tensors_digest
from src.core.digests import folder_digest
from src.tabular.prepare import Preparation, prepare
from src.training.exactness import choose_instructions

class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.gru = nn.Embedding(20, 24), nn.GRU(24, 32, batch_first=True)
        self.head = nn.Linear(32, 5)
    def forward(self, tokens):
        return self.head(self.gru(self.embedding(tokens))[0][:, -1])

choose_instructions(True)
torch.set_num_threads(1)
networks = {
    "dense": (nn.Sequential(nn.Linear(79, 64), nn.BatchNorm1d(64), nn.Tanh(), nn.Dropout(0.2),
                            nn.Linear(64, 5)),
              torch.randn(32, 79)),
    "convolution": (nn.Sequential(nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.MaxPool2d(2),
                                  nn.Conv2d(8, 16, 3, padding=1), nn.Flatten(), nn.Linear(16 * 36, 5)),
                    torch.randn(32, 1, 14, 14)),
    "recurrent": (Recurrent(), torch.arange(32 * 7).reshape(32, 7) % 20),
}
found = {}
for name, (network, inputs) in networks.items():
    torch.manual_seed(0)
    for layer in network.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    optimizer = torch.optim.Adam(network.parameters(), fused=name == "recurrent")
    inputs = torch.randn(inputs.shape) if inputs.is_floating_point() else inputs
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs), torch.arange(32) % 5).backward()
        optimizer.step()
    found[name] = tensors_digest(network.state_dict())
prepare(Path("raw"), Path(sys.argv[1]), Preparation(target="y", target_transform=["log", "standardize"]))
found["preparation"] = folder_digest(Path(sys.argv[1]))
print(json.dumps(found))
"""

amd64 = pytest.mark.skipif(
    platform.machine() not in {"x86_64", "AMD64"} or shutil.which(EMULATOR) is None,
    reason=f"no x86 processor, or no {EMULATOR} (Debian: qemu-user)",
)


@amd64
@pytest.mark.slow
def test_processors_of_amd_and_intel_give_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    rows = [f"{n},{n * n % 17},{'abc'[n % 3]},{1000 + 37 * n % 101}" for n in range(60)]
    (tmp_path / "raw" / "train.csv").write_text("\n".join(["size,age,kind,y", *rows]) + "\n")
    commands = {"here": [], **{name: [EMULATOR, "-cpu", name] for name in PROCESSORS}}
    running = {
        name: subprocess.Popen(
            [*emulated, sys.executable, "-c", PROGRAM, name],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, emulated in commands.items()
    }
    outputs = {name: process.communicate() for name, process in running.items()}
    found = {name: json.loads(output or "null") for name, (output, _) in outputs.items()}
    assert found["here"], outputs["here"][1]
    for name in PROCESSORS:
        assert found[name] == found["here"], f"{name}: {outputs[name][1][-2000:]}"
