"""Square roots on the CPU that are correctly rounded, as IEEE 754 asks, and so equal on all processors.

MKL, which torch uses for them, starts from the processor's approximate reciprocal root, which AMD and Intel
define differently. A sixth of all float32 roots has another last bit than the exact root, and the steps of
Adam, RMSprop and other optimizers that are not fused have, too. Norms and standard deviations do not use it.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.library import Library

USUAL = (torch.float32, torch.float64)
WIDE = (torch.float32, torch.float64, torch.complex64, torch.complex128)


@cache
def use_exact_square_roots() -> Library:
    """Have torch.sqrt, on tensors of the CPU, computed by NumPy, which uses the processor's own instruction.

    `tensor ** 0.5` stays MKL's. A call takes some microseconds more.

    Returns:
        The registration, which must not be deleted.
    """
    library = Library("aten", "IMPL")
    for name, function in {"sqrt": _sqrt, "sqrt_": _sqrt_in_place, "sqrt.out": _sqrt_out}.items():
        library.impl(name, function, "CPU", allow_override=True)
    return library


def _sqrt(tensor: Tensor) -> Tensor:
    if tensor.ndim and tensor.dtype in USUAL:  # half the time of the general case, once a parameter and step
        with np.errstate(invalid="ignore"):
            return torch.from_numpy(np.sqrt(tensor.detach().numpy()))
    whole = not (tensor.is_floating_point() or tensor.is_complex())
    kind = torch.get_default_dtype() if whole else tensor.dtype
    wide = tensor.detach().to(kind if kind in WIDE else torch.float32)
    with np.errstate(invalid="ignore"):  # NaN, as torch does
        return torch.from_numpy(np.asarray(np.sqrt(wide.numpy()))).to(kind)


def _sqrt_in_place(tensor: Tensor) -> Tensor:
    return tensor.copy_(_sqrt(tensor))


def _sqrt_out(tensor: Tensor, *, out: Tensor) -> Tensor:
    return out.resize_(tensor.shape).copy_(_sqrt(tensor))
