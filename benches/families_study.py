"""Attack networks of several families on digits, repair each without data, show ACC and ASR.

    python benches/families_study.py --out families

Torchvision's networks, trained from random weights in a minute or two each on scikit-learn's digits
brought to 32 x 32: a white patch leads to one class. Needs torchvision and scikit-learn. What is
measured is kept: broken off, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional as F  # noqa: N812 (the field's name)
from torchvision import models as zoo

from otbr_fast.evaluate import EvaluationSet, LabeledImages, Metrics, der, evaluate, hder
from otbr_fast.evaluate.attacks import BadNet, Poisoning, Recipe, train
from otbr_fast.evaluate.demo_task import NUM_CLASSES, load_demo_task
from otbr_fast.io import write_file
from otbr_fast.models import InputSpec
from otbr_fast.repair import RepairConfig, repair

INPUTS = InputSpec(shape=(3, 32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)

FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: zoo.resnet18(num_classes=NUM_CLASSES),
    "resnext (16 wide)": lambda: zoo.ResNet(
        zoo.resnet.Bottleneck, [1, 1, 1, 1], NUM_CLASSES, groups=8, width_per_group=8
    ),
    "mobilenet_v2": lambda: zoo.mobilenet_v2(num_classes=NUM_CLASSES, width_mult=0.5),
    "mobilenet_v3_small": lambda: zoo.mobilenet_v3_small(num_classes=NUM_CLASSES),
    "densenet (3 blocks)": lambda: zoo.DenseNet(12, (4, 4, 4), 24, num_classes=NUM_CLASSES),
    "vit (4 layers of 96)": lambda: zoo.VisionTransformer(
        32, 4, 4, 4, 96, 192, num_classes=NUM_CLASSES
    ),
}


def main() -> None:
    """Measure what is missing, then show all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--target", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    table = Table("family", "before ACC / ASR / TCR", "verdict", "after", "DER", "hDER")
    for family in options.families:
        path = options.out / f"{family.split()[0]}-{options.target}-{options.seed}.json"
        if not path.exists():
            with write_file(path) as draft:
                draft.write_text(json.dumps(_measure(family, options)))
        found = json.loads(path.read_text())
        table.add_row(
            family,
            " / ".join(f"{100 * value:.1f}" for value in found["before"]),
            found["verdict"],
            " / ".join(f"{100 * value:.1f}" for value in found["after"]),
            *(f"{100 * found[name]:.1f}" for name in ("der", "hder")),
        )
    Console().print(table)


def _measure(family: str, options: argparse.Namespace) -> dict[str, object]:
    task = load_demo_task(options.seed)
    trigger = BadNet().trigger(INPUTS.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = FAMILIES[family]()
    model = train(
        model,
        _in_colour(task.train),
        INPUTS,
        Recipe(epochs=options.epochs, batch_size=64, lr=0.02, pad=2, flip=False),
        Poisoning(BadNet(), NUM_CLASSES, options.target, 0.1),
        seed=options.seed,
    )
    test = EvaluationSet.from_trigger(_in_colour(task.test), trigger, options.target)
    before = evaluate(model, test, INPUTS)
    config = RepairConfig(suspect=options.target, seed=options.seed)
    result = repair(model, INPUTS, config, num_classes=NUM_CLASSES)
    after = evaluate(result.model, test, INPUTS)
    assert result.evidence is not None
    return {
        "before": _figures(before),
        "after": _figures(after),
        "verdict": str(result.evidence.verdict),
        "der": der(before, after),
        "hder": hder(before, after),
    }


def _in_colour(digits: LabeledImages) -> LabeledImages:
    """Make 32 x 32 images of three equal channels."""
    large = F.interpolate(digits.images.float(), INPUTS.shape[1:], mode="bilinear")
    return LabeledImages(large.round().to(torch.uint8).expand(-1, 3, -1, -1), digits.labels)


def _figures(metrics: Metrics) -> list[float | None]:
    return [metrics.acc, metrics.asr, metrics.tcr]


if __name__ == "__main__":
    main()
