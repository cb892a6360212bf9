"""Square roots are those of IEEE 754, whatever the processor."""

import math

import numpy as np
import pytest
import torch

from src.core.square_roots import use_exact_square_roots


@pytest.fixture(autouse=True)
def exact() -> None:
    use_exact_square_roots()


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("step", [1, 3])
def test_roots_are_correctly_rounded(kind: torch.dtype, step: int) -> None:
    numbers = torch.linspace(1e-3, 5, 5003, dtype=kind)[::step]
    exact = np.sqrt(numbers.numpy())
    assert (numbers.sqrt().numpy() == exact).all()
    assert (torch._foreach_sqrt([numbers])[0].numpy() == exact).all()
    assert (torch.sqrt(numbers, out=torch.empty(0, dtype=kind)).numpy() == exact).all()
    assert (numbers.clone().sqrt_().numpy() == exact).all()


def test_an_optimizer_that_is_not_fused_takes_the_steps_of_the_formula() -> None:
    weights = torch.nn.Parameter(torch.linspace(-1, 1, 1001))
    optimizer = torch.optim.Adagrad([weights], lr=0.5)
    weights.grad = torch.linspace(0.1, 3, 1001)
    start, gradient = weights.detach().numpy().copy(), weights.grad.numpy()
    optimizer.step()
    with np.errstate(divide="ignore"):
        expected = start - np.float32(0.5) * gradient / (np.sqrt(gradient * gradient) + np.float32(1e-10))
    assert weights.detach().numpy() == pytest.approx(expected, rel=2e-7)


def test_other_tensors_have_roots_as_before() -> None:
    assert torch.tensor([4, 9]).sqrt().tolist() == [2.0, 3.0]
    assert torch.tensor([True]).sqrt().dtype == torch.float32
    assert torch.tensor(2.25, dtype=torch.bfloat16).sqrt().item() == 1.5
    assert torch.tensor(-4 + 0j).sqrt().item() == 2j
    assert math.isnan(torch.tensor(-1.0).sqrt().item())
    assert torch.empty(0, 3).sqrt().shape == (0, 3)
    numbers = torch.tensor([4.0, 16.0], requires_grad=True)
    numbers.sqrt().sum().backward()
    assert numbers.grad is not None
    assert numbers.grad.tolist() == [0.25, 0.125]
    assert torch.func.vmap(torch.sqrt)(torch.tensor([[4.0], [9.0]])).tolist() == [[2.0], [3.0]]
