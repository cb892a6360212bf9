"""The outputs of an epoch, kept for metrics over all of its examples."""

import torch
from torch import Tensor, distributed
from torchmetrics.utilities.distributed import gather_all_tensors

JOINED = 64  # batches that are kept as one


class EpochOutputs(dict[str, list[tuple[Tensor, Tensor]]]):
    """Keep outputs and targets batch by batch; hand out those of all batches and processes at once.

    A metric of the whole epoch is not the mean of the metrics of its batches, so none is computed before.
    It is a dictionary from the stage to its batches, so that a checkpoint within an epoch has them.
    """

    def add(self, stage: str, outputs: Tensor, target: Tensor) -> None:
        """Keep a batch: outputs (B, ...) and target (B, ...) of `train`, `validation` or `test`."""
        kept = self.setdefault(stage, [])
        kept.append((outputs.detach(), target))
        if len(kept) >= JOINED and len(kept[-JOINED][1]) == len(target):  # no joined one is among them
            # many small tensors that stay between large ones that go would leave holes in the memory
            all_outputs, targets = map(torch.cat, zip(*kept[-JOINED:], strict=True))
            kept[-JOINED:] = [(all_outputs, targets)]

    def take(self, stage: str) -> tuple[Tensor, Tensor]:
        """Outputs (N, ...) and targets (N, ...) of an epoch of a stage, which is then forgotten.

        Outputs of 16 bits have 32 here: a mean in 16 bits has three digits.
        """
        outputs, target = map(torch.cat, zip(*self.pop(stage), strict=True))
        if outputs.dtype in (torch.bfloat16, torch.float16):
            outputs = outputs.float()
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            outputs, target = (torch.cat(gather_all_tensors(part)) for part in (outputs, target))
        return outputs, target
