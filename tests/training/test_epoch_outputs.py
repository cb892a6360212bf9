import torch

from src.training.epoch_outputs import EpochOutputs


def test_the_batches_of_an_epoch_are_handed_out_in_their_order() -> None:
    kept = EpochOutputs()
    sizes = [5] * 300 + [3]
    outputs = torch.arange(2 * sum(sizes)).reshape(-1, 2)
    target = torch.arange(sum(sizes))
    for batch, values in zip(outputs.split(sizes), target.split(sizes), strict=True):
        kept.add("train", batch, values)
    assert len(kept["train"]) == 4 + 300 % 64 + 1
    found, values = kept.take("train")
    assert torch.equal(found, outputs)
    assert torch.equal(values, target)
    assert "train" not in kept


def test_outputs_of_16_bits_are_handed_out_with_32() -> None:
    kept = EpochOutputs()
    kept.add("train", torch.tensor([[1.5]], dtype=torch.bfloat16), torch.tensor([0]))
    found, _ = kept.take("train")
    assert found.dtype == torch.float32
    assert found.item() == 1.5
