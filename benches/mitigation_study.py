"""Attack networks in the lab, then compare all defences on them: the tables of docs/mitigation.md.

    python benches/mitigation_study.py --train cifar10_train.npz --test cifar10_test.npz --out study

For each seed one network is half trained without an attack, and every attack branches from it, each
with a target of its own; an unattacked one too. What is done is kept: broken off, the same command
goes on where it was. Full width and more epochs want a GPU; the defaults are for two cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_LR_BETWEEN = "0.04"
_FIRST_SEED = 10


@dataclass(frozen=True)
class Attack:
    """An attack of the study and its target in the first seed; each later seed's is three on."""

    name: str
    target: int
    epochs: int = 2
    strength: str = ""


ATTACKS = (
    Attack("badnet", 2),
    Attack("sig", 1),
    Attack("blended", 7),
    Attack("trojan", 9),
    Attack("low_frequency", 4),
    Attack("ssba_like", 6),
    Attack("wanet", 5, epochs=5, strength="s=1.5,cross_ratio=0"),
    Attack("input_aware", 3, epochs=4, strength="cross_ratio=0"),
)


def main() -> None:
    """Train what is missing, then compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, required=True, help="labelled training images")
    parser.add_argument("--test", type=Path, required=True, help="labelled test images")
    parser.add_argument("--out", type=Path, required=True, help="folder of networks and tables")
    parser.add_argument("--seeds", type=int, nargs="+", default=[_FIRST_SEED, 11])
    parser.add_argument("--classes", type=int, default=10, help="number of classes")
    parser.add_argument("--width", default="0.5", help="of all layers, as a fraction")
    parser.add_argument("--epochs", default="6", help="of the half-trained network")
    parser.add_argument("--limit", default="2000", help="test images to measure on")
    parser.add_argument("--methods", help="of otbr-fast compare; all but ablations if not given")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    records = [record for seed in options.seeds for record in _networks(options, seed)]
    chosen = ["--methods", options.methods] if options.methods else []
    run(
        "compare",
        *map(str, records),
        "--data",
        str(options.test),
        "--train-data",
        str(options.train),
        "--limit",
        options.limit,
        "--out",
        str(options.out / "comparison"),
        "--device",
        options.device,
        "--overwrite",  # the tables of other seeds; the outcomes stay
        *chosen,
    )


def _networks(options: argparse.Namespace, seed: int) -> list[Path]:
    """Train a seed's networks and return their folders."""
    base = options.out / f"half-trained-{seed}"
    _train(
        options,
        base,
        "none",
        seed,
        "--width",
        options.width,
        "--epochs",
        options.epochs,
        "--lr-end",
        _LR_BETWEEN,
    )
    branch = ("--start-from", str(base / "model.safetensors"))
    folders = [options.out / f"none-{seed}"]
    _train(options, folders[0], "none", seed, *branch, "--epochs", "2")
    for attack in ATTACKS:
        target = (attack.target + 3 * (seed - _FIRST_SEED)) % options.classes
        strength = ("--strength", attack.strength) if attack.strength else ()
        folders.append(options.out / f"{attack.name}-{seed}")
        _train(
            options,
            folders[-1],
            attack.name,
            seed,
            *branch,
            "--epochs",
            str(attack.epochs),
            "--target",
            str(target),
            *strength,
        )
    return [_network(folder) for folder in folders]


def _network(folder: Path) -> Path:
    """Return what `compare` reads: a record, or the weights of a network without an attack."""
    record = (folder / "attack_result.pt").is_file()
    return folder if record else folder / "model.safetensors"


def _train(options: argparse.Namespace, out: Path, name: str, seed: int, *more: str) -> None:
    if (out / "model.safetensors").is_file():
        return
    run(
        "attack",
        name,
        "--data",
        str(options.train),
        "--test",
        str(options.test),
        "--out",
        str(out),
        "--seed",
        str(seed),
        "--device",
        options.device,
        *more,
    )


def run(*arguments: str) -> None:
    """Run a command of otbr-fast; end as it does if it fails."""
    print("otbr-fast", *arguments, flush=True)
    program = "from otbr_fast.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program, *arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
