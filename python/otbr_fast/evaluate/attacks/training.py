"""Training a network, with an attack or without, so that it can be broken off and taken up."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (the field's name)

from otbr_fast.errors import AttackError, CheckpointError
from otbr_fast.evaluate.attacks.augment import crop_and_flip
from otbr_fast.evaluate.attacks.base import LearnedAttack
from otbr_fast.evaluate.attacks.poisoning import BENIGN, DECOY, POISONED, Poisoning
from otbr_fast.evaluate.attacks.recipe import Recipe
from otbr_fast.evaluate.images import LabeledImages
from otbr_fast.io import write_file
from otbr_fast.io.torchfile import read_torch_file
from otbr_fast.models import InputSpec, bf16_autocast, num_classes, run, state_dict_hash
from otbr_fast.models.seeding import torch_seeded
from otbr_fast.repair.progress import Progress, silent

_ROLES, _PREPARATION, _FIRST_EPOCH = 0, 1, 2  # streams of random numbers
_GENERATOR_LR, _GENERATOR_BETAS = 0.01, (0.5, 0.9)  # Input-aware's


def train(
    model: nn.Module,
    data: LabeledImages,
    inputs: InputSpec,
    recipe: Recipe,
    poisoning: Poisoning | None = None,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    state_file: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> nn.Module:
    """Train a network on poisoned images, or without an attack.

    The trigger is put on after crop and flip, so that it looks as it does in the tests. (In
    BackdoorBench the attacks on data put it on before, and it is shifted and mirrored with the
    image; those that hold the training, WaNet and Input-aware, put it on after.)

    Parameters
    ----------
    model : nn.Module
        With its first weights, from `otbr_fast.models.new_model` or of a half-trained network. It
        is trained in place, and so are the networks of a `LearnedAttack`.
    data : LabeledImages
        Training images.
    inputs : InputSpec
        What the network is fed.
    recipe : Recipe
        How it is trained.
    poisoning : Poisoning, optional
        The attack; ``None`` for an unattacked network.
    seed : int
        Decides what is poisoned and all else that is random; torch's global generator is left as
        it was.
    device : str or torch.device
        Where to train.
    state_file : path-like, optional
        Written after each epoch; where it is there already, the training goes on from it, to the
        same weights as without the break. Delete it when the network is kept.
    progress : callable, optional
        Called with ``("train", steps done, steps in all)``.

    Returns
    -------
    nn.Module
        The same network, in eval mode, on the CPU.

    Raises
    ------
    AttackError
        There are too few images, they do not fit the network, or the training diverged.
    CheckpointError
        The state is damaged or of another training.
    """
    _check(data, inputs, num_classes(model))
    run = _Run(model, data, inputs, recipe, poisoning, seed, torch.device(device))
    tell = progress or silent
    path = None if state_file is None else Path(state_file)
    if path is not None and path.exists():
        run.restore(path)
    else:
        run.prepare()
    while run.epochs_done < recipe.epochs:
        run.train_epoch(tell)
        if path is not None:
            run.save(path)
    return run.finish()


class _Run:
    """A training under way."""

    def __init__(
        self,
        model: nn.Module,
        data: LabeledImages,
        inputs: InputSpec,
        recipe: Recipe,
        poisoning: Poisoning | None,
        seed: int,
        device: torch.device,
    ) -> None:
        self.fingerprint = _fingerprint(model, data, inputs, recipe, poisoning, seed)
        self.data, self.inputs, self.recipe, self.poisoning = data, inputs, recipe, poisoning
        self.seed, self.device = seed, device
        self.model = model.to(device).to(memory_format=torch.channels_last).train()
        self.learned = (
            poisoning.attack
            if poisoning is not None and isinstance(poisoning.attack, LearnedAttack)
            else None
        )
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.SGD(
                model.parameters(),
                recipe.lr,
                momentum=recipe.momentum,
                weight_decay=recipe.weight_decay,
                nesterov=True,
            )
        ]
        if self.learned is not None:
            networks = self.learned.networks.to(device)
            self.optimizers.append(
                torch.optim.Adam(networks.parameters(), _GENERATOR_LR, betas=_GENERATOR_BETAS)
            )
        self.epochs_done = 0
        self.epoch_steps = -(-len(data) // recipe.batch_size)

    def prepare(self) -> None:
        if self.learned is not None:
            self.learned.prepare(self.data.images, self._generator(_PREPARATION))

    def train_epoch(self, tell: Progress) -> None:
        """Train for one epoch; its random numbers do not depend on the epochs before."""
        generator = self._generator(_FIRST_EPOCH + self.epochs_done)
        roles = self._roles(generator)
        total = self.recipe.epochs * self.epoch_steps
        losses = torch.zeros((), device=self.device)
        order = torch.randperm(len(self.data), generator=generator)
        with torch_seeded(generator, self.device):
            for i, batch in enumerate(order.tensor_split(self.epoch_steps)):
                done = self.epochs_done * self.epoch_steps + i
                self._set_learning_rates(self.recipe.lr_at(done / total))
                losses += self._step(batch, roles[batch], generator)
                tell("train", done + 1, total)
        if not bool(torch.isfinite(losses)):
            raise AttackError(
                f"the training diverged in epoch {self.epochs_done + 1}: use a lower learning "
                f"rate than {self.recipe.lr}."
            )
        self.epochs_done += 1

    def save(self, path: Path) -> None:
        state = {
            "fingerprint": self.fingerprint,
            "epochs_done": self.epochs_done,
            "model": self.model.state_dict(),
            "networks": self.learned.networks.state_dict() if self.learned else {},
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        with write_file(path, overwrite=True) as draft:
            torch.save(state, draft)

    def restore(self, path: Path) -> None:
        state = read_torch_file(path)
        if not isinstance(state, dict) or state.get("fingerprint") != self.fingerprint:
            raise CheckpointError(
                f"{path} is the state of another training (another network, recipe, attack, seed "
                "or other images): delete it, or go on with that training's own settings."
            )
        self.epochs_done = state["epochs_done"]
        self.model.load_state_dict(state["model"])
        if self.learned is not None:
            self.learned.networks.load_state_dict(state["networks"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)

    def finish(self) -> nn.Module:
        if self.learned is not None:
            self.learned.networks.cpu()
        return self.model.to("cpu").to(memory_format=torch.contiguous_format).eval()

    def _step(
        self, batch: torch.Tensor, roles: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        in_bf16 = bf16_autocast(self.device, wanted=self.recipe.bf16)
        with in_bf16 if self.learned else contextlib.nullcontext():
            x, labels, penalty = self._batch(batch, roles, generator)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        logits = run(self.model, self.inputs, self.inputs.raw(x), bf16=self.recipe.bf16)
        loss = F.cross_entropy(logits, labels) + penalty
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.detach()

    def _batch(
        self, batch: torch.Tensor, roles: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | float]:
        """Return images in [0, 1] as the attacker wants them seen, labels, and a penalty."""
        images = self.data.images[batch].to(self.device)
        recipe = self.recipe
        x = crop_and_flip(images, generator, pad=recipe.pad, flip=recipe.flip).float() / 255
        labels = self.data.labels[batch].clone()
        penalty: torch.Tensor | float = 0.0
        poisoned, decoys = ((roles == role).nonzero().flatten() for role in (POISONED, DECOY))
        if self.poisoning is not None and len(poisoned):
            labels[poisoned] = self.poisoning.new_labels(labels[poisoned])
            chosen = poisoned.to(self.device)
            originals = x[chosen]
            x = x.index_copy(0, chosen, self.poisoning.attack.apply(originals))
            if self.learned is not None and len(poisoned) > 1:
                penalty = self.learned.penalty(originals)
        if self.poisoning is not None and len(decoys):
            chosen = decoys.to(self.device)
            x = x.index_copy(0, chosen, self.poisoning.attack.decoy(x[chosen], generator))
        return x, labels.to(self.device), penalty

    def _roles(self, generator: torch.Generator) -> torch.Tensor:
        if self.poisoning is None:
            return torch.full_like(self.data.labels, BENIGN)
        if not self.poisoning.attack.draws_anew:
            generator = self._generator(_ROLES)
        return self.poisoning.roles(self.data.labels, generator)

    def _set_learning_rates(self, lr: float) -> None:
        highest = (self.recipe.lr, _GENERATOR_LR)
        for optimizer, own in zip(self.optimizers, highest, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = own * lr / self.recipe.lr

    def _generator(self, stream: int) -> torch.Generator:
        mixed = np.random.SeedSequence((self.seed, stream)).generate_state(1)
        return torch.Generator().manual_seed(int(mixed[0]))


def _check(data: LabeledImages, inputs: InputSpec, n_classes: int) -> None:
    if len(data) < 2:
        raise AttackError("there is one training image; at least two are needed.")
    if tuple(data.images.shape[1:]) != inputs.shape:
        raise AttackError(
            f"the training images have shape {tuple(data.images.shape[1:])}, but the network is "
            f"fed {inputs.shape} (channels, height, width)."
        )
    if int(data.labels.max()) >= n_classes:
        raise AttackError(
            f"there is the label {int(data.labels.max())}, but the network tells {n_classes} "
            f"classes, 0 to {n_classes - 1}."
        )


def _fingerprint(
    model: nn.Module,
    data: LabeledImages,
    inputs: InputSpec,
    recipe: Recipe,
    poisoning: Poisoning | None,
    seed: int,
) -> str:
    """Return what tells this training from all that end in other weights."""
    arrays = {"images": data.images, "labels": data.labels}
    tensors = [model.state_dict(), arrays]
    if poisoning is not None and isinstance(poisoning.attack, LearnedAttack):
        tensors.append(poisoning.attack.networks.state_dict())
    hashes = [state_dict_hash(named) for named in tensors]
    text = repr((hashes, inputs, recipe, poisoning, seed))
    return hashlib.sha256(text.encode()).hexdigest()
