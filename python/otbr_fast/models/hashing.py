"""What tells two sets of weights apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch


def state_dict_hash(state_dict: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256, in hexadecimal, of all names, dtypes, shapes and bytes, sorted by name.

    It does not depend on the file format, the device or the order of the tensors.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(state_dict.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(bytes_of(tensor))
    return digest.hexdigest()


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """Return a tensor's bytes in order, to be read only; not copied where that is how they lie."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if not flat.numel():  # torch cannot reinterpret the bytes of no numbers
        return memoryview(b"")
    return flat.view(torch.uint8).numpy().data
