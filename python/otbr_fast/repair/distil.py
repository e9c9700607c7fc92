"""Teaching a repaired network, on surrogates, what the original knew besides the backdoor."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (the field's name)

from otbr_fast.errors import RepairError
from otbr_fast.models.inputs import InputSpec
from otbr_fast.models.precision import run, working_copy
from otbr_fast.repair.probe import Probe
from otbr_fast.repair.progress import Progress, silent
from otbr_fast.repair.surrogates import Surrogates, blurred, images_at_once, mixed, shifted

_MOMENTUM = 0.9
_MAX_GRADIENT = 5.0
_WEAKEST, _STRONGEST = 0.5, 1.2  # of a probe, as parts of its own size; more if it is small


def distil(
    original: nn.Module,
    repaired: nn.Module,
    inputs: InputSpec,
    surrogates: Surrogates,
    probes: Sequence[Probe],
    *,
    steps: int = 80,
    lr: float = 0.006,
    batch_size: int = 64,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> nn.Module:
    """Train a repaired network to answer as the original does, with a probe added or not.

    Two divergences are lowered together, each Kullback-Leibler from the original's answer: on
    surrogates as they are, and on surrogates of other classes than a probe's with that probe
    added, at a random strength, where the original is asked about them without it. The strength is
    from 0.5 to 1.2, or to what brings the probe to the largest radius of its like (of additive ones
    about that of a trigger that is blended into whole images): a smaller one that leads to the
    class is not the trigger.
    So the network keeps what it knows, and unlearns the way to the suspected class. Each surrogate
    is mixed with another, which keeps at most half: the original is less sure of such images, so
    they tell more of what it knows (mixup, Zhang et al., ICLR 2018, arXiv 1710.09412); and half of
    them are blurred, since photographs have less detail. All parameters are trained. Batch norms
    use their running statistics, and dropout is off.

    Distillation on synthesised images is DeepInversion's use of them (Yin et al., CVPR 2020, arXiv
    1912.08795); training against a universal perturbation found on them is ours.

    Parameters
    ----------
    original, repaired : nn.Module
        Two networks of one architecture; they are not changed.
    inputs : InputSpec
        Shape, range and normalisation of their input.
    surrogates : Surrogates
        Made from the original; those of the probes' class from a network in which the backdoor is
        diluted, see `renewed`, or they teach the trigger's features again.
    probes : sequence of Probe
        Of the suspected class, or several; may be empty.
    steps : int
        Of SGD with momentum 0.9, at least 0.
    lr : float
        Falls linearly to 0.
    batch_size : int
        Surrogates in each of the two parts of a step; fewer if they are large, so that memory is
        bounded.
    seed : int
        Decides what is drawn; torch's global generator is left as it was.
    device : torch.device or str
        Where to train, in bfloat16 if it has instructions for that.
    progress : callable, optional
        Called after each step with ``("distil", done, steps)``.

    Returns
    -------
    nn.Module
        A copy of the repaired network, on the CPU, in eval mode, in its own precision.

    Raises
    ------
    RepairError
        There is no surrogate to probe, or the loss is not finite.
    """
    teacher, student = working_copy(original, device), working_copy(repaired, device)
    trained = dict(student.requires_grad_(True).named_parameters())
    optimizer = torch.optim.SGD(list(trained.values()), lr=lr, momentum=_MOMENTUM)
    lessons = _Lessons(surrogates, probes, inputs, min(batch_size, images_at_once(inputs)))
    generator = torch.Generator().manual_seed(seed)
    tell = progress or silent
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        optimizer.zero_grad()
        shown, asked = lessons.draw(generator)
        with torch.no_grad():
            answers = run(teacher, inputs, asked.to(device))
        with torch.enable_grad():
            loss = _divergence(run(student, inputs, shown.to(device)), answers, lessons.n_parts)
            loss.backward()  # type: ignore[no-untyped-call]
        if not bool(torch.isfinite(loss)):
            raise RepairError(
                f"the distillation diverged (loss {loss.item()} in step {step + 1}): use a lower "
                f"lr than {lr}, or leave it out (distil_steps=0)"
            )
        nn.utils.clip_grad_norm_(trained.values(), _MAX_GRADIENT)
        optimizer.step()
        tell("distil", step + 1, steps)
    return _with_parameters(repaired, trained)


class _Lessons:
    """Draws batches: what the student is shown, and what the teacher is asked."""

    def __init__(
        self,
        surrogates: Surrogates,
        probes: Sequence[Probe],
        inputs: InputSpec,
        batch_size: int,
    ) -> None:
        self.images, self.inputs = surrogates.images, inputs
        self.batch_size = batch_size
        self.n_parts = 2 if probes else 1
        self.probes = probes
        if probes:
            targets = torch.tensor([probe.target for probe in probes])
            # Each image can be shown with each probe that leads elsewhere.
            self.pairs = (surrogates.labels[:, None] != targets).nonzero()
            if not len(self.pairs):
                raise RepairError(
                    f"all surrogates are of the probed class {int(targets[0])}; make more, of all "
                    "classes"
                )

    def draw(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        plain = self._seen(self._choose(len(self.images), generator), generator)
        if self.n_parts == 1:
            return plain, plain
        images, chosen = self.pairs[self._choose(len(self.pairs), generator)].unbind(dim=1)
        asked = self._seen(images, generator)
        strength = torch.rand((len(asked), 1, 1, 1), generator=generator, dtype=asked.dtype)
        probed = torch.empty_like(asked)
        for i in sorted(set(chosen.tolist())):
            probe, led = self.probes[i], chosen == i
            strongest = max(_STRONGEST, probe.largest / probe.radius)
            scale = _WEAKEST + (strongest - _WEAKEST) * strength[led]
            probed[led] = probe.change(asked[led], scale * probe.perturbation)
        probed = probed.clamp(self.inputs.low, self.inputs.high)
        return torch.cat([plain, probed]), torch.cat([plain, asked])

    def _choose(self, count: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randint(count, (self.batch_size,), generator=generator)

    def _seen(self, chosen: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        images = mixed(shifted(self.images[chosen], generator), generator)
        return blurred(images, generator).clamp(self.inputs.low, self.inputs.high)


def _divergence(logits: torch.Tensor, answers: torch.Tensor, n_parts: int) -> torch.Tensor:
    """Return the sum of each part's mean divergence from the answers."""
    mean = F.kl_div(
        logits.log_softmax(dim=1),
        answers.log_softmax(dim=1),
        log_target=True,
        reduction="batchmean",
    )
    return n_parts * mean  # the parts are of one size


def _with_parameters(model: nn.Module, trained: dict[str, nn.Parameter]) -> nn.Module:
    result = copy.deepcopy(model).cpu().eval()
    for name, parameter in trained.items():
        target = result.get_parameter(name)
        with torch.no_grad():
            target.copy_(parameter)
        if not bool(torch.isfinite(target).all()):
            raise RepairError(
                f"the distilled parameter '{name}' is not finite in {target.dtype}: use a lower lr"
            )
    return result
