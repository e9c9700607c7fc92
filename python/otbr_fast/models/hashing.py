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
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        if flat.numel():  # torch cannot reinterpret the bytes of no numbers
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
