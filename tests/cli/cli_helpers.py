"""Small suspicious models, evaluation data, and ways to call the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from typer.testing import CliRunner

from otbr_fast.cli import app
from otbr_fast.io import save_safetensors
from otbr_fast.models import PreActResNet

ON_CPU = ("--device", "cpu")
QUICK = ("--steps", "2", "--batch-size", "8", *ON_CPU)
NWC = ("--ranking", "nwc", "--distil-steps", "0", *QUICK)
"""No probes to rank by, and no learning back: the published ranking, quickly."""
DESCRIPTION = {
    "model_name": "preactresnet",
    "num_classes": 5,
    "input_shape": [3, 8, 8],
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.4],
    "attack": {"name": "badnet", "target": 1},
}


class Outcome:
    """What a call of the command left: exit code, stdout and stderr apart."""

    def __init__(self, *arguments: object) -> None:
        wide = {"COLUMNS": "250"}  # so that messages are not broken into lines
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], env=wide)
        self.code = result.exit_code
        self.out = result.stdout
        self.err = result.stderr

    @property
    def document(self) -> Any:
        """The one JSON document that stdout holds."""
        assert self.code == 0, self.err
        return json.loads(self.out)


def small_network(width: int = 8) -> PreActResNet:
    """A network of nine convolutions in its chain, all of this width, for images of 3x8x8."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PreActResNet((1, 1, 1, 1), (width,) * 5, in_channels=3, num_classes=5).eval()


def write_suspect(folder: Path, *, width: int = 8, described: bool = True) -> Path:
    path = folder / "suspect.safetensors"
    save_safetensors(small_network(width).state_dict(), path, overwrite=True)
    if described:
        path.with_suffix(".json").write_text(json.dumps(DESCRIPTION))
    return path


def write_planted(folder: Path) -> Path:
    """A network in which all classes are as hard to reach but class 1, whose way is short."""
    network = small_network()
    with torch.no_grad():
        network.linear.weight *= 0.01
        network.linear.bias.zero_()
        network.linear.weight[1] = torch.linspace(-3, 3, network.linear.in_features)
    path = folder / "planted.safetensors"
    save_safetensors(network.state_dict(), path)
    path.with_suffix(".json").write_text(json.dumps(DESCRIPTION))
    return path


def write_trigger(folder: Path, name: str = "suspect_trigger.npz") -> Path:
    mask = np.zeros((3, 8, 8), dtype=np.float32)
    mask[:, -2:, -2:] = 1
    path = folder / name
    np.savez(path, mask=mask, pattern=np.ones_like(mask))
    return path


def write_images(folder: Path, n: int = 40) -> Path:
    random = np.random.default_rng(0)
    path = folder / "test.npz"
    images = random.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(n, dtype=np.int64) % 5)
    return path


def files_in(folder: Path) -> dict[str, bytes]:
    """Everything in a folder: to see that nothing was written, or changed."""
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_record(
    folder: Path, *, missing: tuple[int, ...] = (), targets: tuple[int, ...] = (1,)
) -> Path:
    """A BackdoorBench record of six poisoned images of class 0, some of them not there."""
    record = folder / "record"
    images = record / "bd_test_dataset" / "0"
    images.mkdir(parents=True)
    samples = {}
    for i in range(6):
        target = targets[i % len(targets)]
        samples[i] = {"path": f"bd_test_dataset/0/{i}.png", "other_info": [target, 0]}
        if i not in missing:
            Image.new("RGB", (8, 8), (40 * i, 100, 200 - i)).save(images / f"{i}.png")
    content = {
        "model_name": "preactresnet",
        "num_classes": 5,
        "model": small_network().state_dict(),
        "img_size": (8, 8, 3),
        "clean_data": "cifar10",
        "bd_test": {"bd_data_container": {"data_dict": samples}},
    }
    torch.save(content, record / "attack_result.pt")
    return record
