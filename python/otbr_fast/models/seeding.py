"""Random numbers that layers draw for themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def torch_seeded(generator: torch.Generator, device: torch.device | str) -> Iterator[None]:
    """Seed torch's global generators, which dropout draws from, and put them back after.

    Parameters
    ----------
    generator : torch.Generator
        On the CPU; the seed is drawn from it.
    device : torch.device or str
        Where the layers are.
    """
    seed = int(torch.randint(0, 2**62, (), generator=generator))
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
