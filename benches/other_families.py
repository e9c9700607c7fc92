"""Blind repairs of attacked networks of other families: the table of docs/architectures.md.

    python benches/other_families.py --data cifar10_train.npz --test cifar10_test.npz --out families

Of each family one network is half trained without an attack, and the attacks branch from it, each
with a target of its own; of one family an unattacked one too. Then each is repaired with nothing
chosen by hand, and measured before and after. What is done is kept: broken off, the same command
goes on where it was. The defaults take about half an hour of one core that has bfloat16.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from families import FAMILIES, new_network
from torch import nn

from otbr_fast.cli.output import StageClock, progress_bars
from otbr_fast.errors import OtbrFastError
from otbr_fast.evaluate import EvaluationSet, LabeledImages, der, evaluate, hder, load_images
from otbr_fast.evaluate.attacks import Poisoning, Recipe, make_attack, measured_inputs, train
from otbr_fast.io import load_checkpoint, save_safetensors, write_file
from otbr_fast.models import InputSpec
from otbr_fast.repair import RepairConfig, RepairResult, repair

LR, LR_BETWEEN = 0.1, 0.04
TARGETS = {"none": 0, "badnet": 2, "blended": 7, "low_frequency": 4}
"""What is tried, with the first family's targets; each further family moves them on by one."""

Facts = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What a result depends on besides the network's family and attack."""

    seed: int
    epochs: int
    branch_epochs: int
    limit: int


@dataclass(frozen=True)
class Study:
    """What all networks share."""

    train: LabeledImages
    test: LabeledImages
    inputs: InputSpec
    num_classes: int
    settings: Settings
    out: Path
    device: str

    def network(self, family: str, attack: str) -> nn.Module:
        """Return an attacked network, trained if it is not there yet."""
        recipe = Recipe(epochs=self.settings.branch_epochs, lr=LR_BETWEEN, warmup=0)
        file = self.out / f"{family}-{attack}.safetensors"
        model = self._new(family)
        if not file.exists():
            self._load(model, self._half_trained(family))
        return self._trained(model, file, recipe, self.poisoning(family, attack))

    def poisoning(self, family: str, attack: str) -> Poisoning | None:
        if attack == "none":
            return None
        target = (TARGETS[attack] + list(FAMILIES).index(family)) % self.num_classes
        made = make_attack(attack, self.inputs.shape[0], self.settings.seed)
        return Poisoning(made, self.num_classes, target)

    def _half_trained(self, family: str) -> Path:
        file = self.out / f"{family}-half-trained.safetensors"
        recipe = Recipe(epochs=self.settings.epochs, lr=LR, lr_end=LR_BETWEEN)
        self._trained(self._new(family), file, recipe, None)
        return file

    def _trained(
        self, model: nn.Module, file: Path, recipe: Recipe, poisoning: Poisoning | None
    ) -> nn.Module:
        if file.exists():
            self._load(model, file)
            return model
        state = file.with_suffix(".training.pt")
        print(f"training {file.stem}", flush=True)
        with progress_bars() as tell:
            train(
                model,
                self.train,
                self.inputs,
                recipe,
                poisoning,
                seed=self.settings.seed,
                device=self.device,
                state_file=state,
                progress=tell,
            )
        save_safetensors(model.state_dict(), file)
        state.unlink()
        return model

    def _new(self, family: str) -> nn.Module:
        return new_network(family, self.inputs.shape[0], self.num_classes, self.settings.seed)

    @staticmethod
    def _load(model: nn.Module, file: Path) -> None:
        model.load_state_dict(load_checkpoint(file).state_dict)


def measured(study: Study, family: str, attack: str) -> Facts:
    """Repair a network, and tell all that there is to tell of it."""
    file = study.out / f"{family}-{attack}.result.json"
    if file.exists():
        facts: Facts = json.loads(file.read_text())
        return facts
    model = study.network(family, attack)
    facts = {
        "family": family,
        "parameters": sum(values.numel() for values in model.parameters()),
        "attack": attack,
    } | _repaired(study, model, study.poisoning(family, attack))
    with write_file(file) as draft:
        draft.write_text(json.dumps(facts, indent=2))
    return facts


def _repaired(study: Study, model: nn.Module, poisoning: Poisoning | None) -> Facts:
    images = EvaluationSet(study.test)
    if poisoning is not None:
        poisoned, _ = poisoning.poison(study.test)
        images = EvaluationSet(study.test, poisoned, poisoning.target)
    with progress_bars() as tell:
        before = evaluate(model, images, study.inputs, device=study.device, progress=tell)
        facts: Facts = {"target": images.target, "before": asdict(before)}
        clock, started = StageClock(tell), time.process_time()
        try:
            result = repair(
                model,
                study.inputs,
                RepairConfig(seed=study.settings.seed),
                num_classes=study.num_classes,
                device=study.device,
                progress=clock,
            )
        except OtbrFastError as error:
            return facts | {"error": str(error)}
        facts |= {
            "seconds": time.process_time() - started,  # of the CPU: others may use it too
            "wall_seconds": clock.stop(),
        }
        after = evaluate(result.model, images, study.inputs, device=study.device, progress=tell)
    rates = {"der": der(before, after), "hder": hder(before, after)}
    return facts | {"after": asdict(after), **rates} | _told(result)


def _told(result: RepairResult) -> Facts:
    document = result.to_dict()
    names = (
        "verdict",
        "suspect",
        "candidates",
        "proxies_before",
        "n_neurons",
        "n_pruned",
        "versions",
    )
    return {
        "gamma": result.gamma,
        "lambda": result.lambda_,
        "found": result.evidence and result.evidence.verdict.suspect,
        **{name: document[name] for name in names},
    }


def table(rows: list[Facts]) -> str:
    """One line for each network, in percent."""
    lines = [
        "| network | attack, target | before: ACC / ASR / TCR | after | DER | hDER | verdict | s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        attack = row["attack"] if row["target"] is None else f"{row['attack']}, {row['target']}"
        network = f"{row['family']}, {row['parameters'] / 1e6:.1f} M"
        cells = [network, attack, _percent(row["before"], "acc", "asr", "tcr")]
        if "error" in row:
            cells += [row["error"], "", "", "", ""]
        else:
            found = "none" if row["found"] is None else row["found"]
            cells += [
                _percent(row["after"], "acc", "asr", "tcr"),
                _percent(row, "der"),
                _percent(row, "hder"),
                f"{found} (p = {row['verdict']['p_value']:.2g})",
                f"{row['seconds']:.0f}",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _percent(values: Facts, *names: str) -> str:
    return " / ".join("–" if values[k] is None else f"{100 * values[k]:.1f}" for k in names)


def _check_settings(out: Path, settings: Settings) -> None:
    """Refuse a folder of other settings: its networks are not those that were asked for."""
    file = out / "settings.json"
    wanted = json.dumps(asdict(settings), indent=2)
    if not file.exists():
        with write_file(file) as draft:
            draft.write_text(wanted)
    elif file.read_text() != wanted:
        raise typer.BadParameter(f"has networks of other settings ({file})", param_hint="--out")


def main(
    data: Annotated[Path, typer.Option(exists=True, help="Labelled training images.")],
    test: Annotated[Path, typer.Option(exists=True, help="Labelled test images.")],
    out: Annotated[Path, typer.Option(help="Folder of networks and results.")],
    families: Annotated[str, typer.Option(help=f"Of {', '.join(FAMILIES)}.")] = "vgg,resnet",
    attacks: Annotated[str, typer.Option(help=f"Of {', '.join(TARGETS)}.")] = "badnet,blended",
    unattacked: Annotated[str, typer.Option(help="Families to leave unattacked, too.")] = "vgg",
    epochs: Annotated[int, typer.Option(help="Of the half-trained networks.")] = 6,
    branch_epochs: Annotated[int, typer.Option(help="Of each attack.")] = 2,
    limit: Annotated[int, typer.Option(help="Test images to measure on.")] = 5000,
    seed: int = 0,
    threads: Annotated[int, typer.Option(help="Of PyTorch.")] = 1,
    device: str = "cpu",
) -> None:
    """Train what is missing, repair and measure it, and print the table."""
    torch.set_num_threads(threads)
    settings = Settings(seed, epochs, branch_epochs, limit)
    _check_settings(out, settings)
    images = load_images(data)
    shape = images.images.shape[1:]
    held_out = load_images(test, limit=limit, shape=(shape[0], shape[1], shape[2]))
    num_classes = int(images.labels.max()) + 1
    inputs = measured_inputs(images)
    study = Study(images, held_out, inputs, num_classes, settings, out, device)
    rows = []
    for family in families.split(","):
        left = ["none"] if family in unattacked.split(",") else []
        for attack in [*attacks.split(","), *left]:
            rows.append(measured(study, family, attack))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(table(rows))


if __name__ == "__main__":
    typer.run(main)
