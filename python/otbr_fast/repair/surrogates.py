"""Images made from a network's weights alone, to stand in for the data that is not there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (the field's name)

from otbr_fast.errors import RepairError
from otbr_fast.models.inputs import InputSpec
from otbr_fast.models.precision import working_copy
from otbr_fast.repair.progress import Progress, silent
from otbr_fast.repair.statistics import StatisticsGap

_LR, _BETAS, _LAST_LR = 0.05, (0.5, 0.9), 0.1  # Adam's; the step falls to a tenth
_TOTAL_VARIATION = 10.0  # its weight, in networks without batch norm
_GREY = 0.9  # correlation of a noise image's channels, as in photographs
_MIDDLE, _SPREAD = 0.45, 0.25  # of the noise, as parts of the input range
_N_MIXTURES = 3  # of each surrogate
_RENEWED = 4  # as many surrogates to one that is made anew
_LARGEST_BLUR = 2 / 32  # standard deviation of the blur, as a part of the image's smaller side
_PIXELS_AT_ONCE = 2**18  # 256 images of 32 x 32


@dataclass(frozen=True)
class Surrogates:
    """Images that a network takes for its classes, as many of each.

    Parameters
    ----------
    images : Tensor
        Raw inputs, float32, shape (N, C, H, W), in the `InputSpec`'s range, on the CPU.
    labels : Tensor
        The class each was made for; int64, shape (N,), on the CPU.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def of_others(self, target: int) -> torch.Tensor:
        """Return the images made for other classes than the target.

        Raises
        ------
        RepairError
            There are none.
        """
        chosen = self.labels != target
        if not bool(chosen.any()):
            raise RepairError(
                f"there are no surrogates of other classes than {target}; make more, of all classes"
            )
        return self.images[chosen]


def synthesize(
    model: nn.Module,
    inputs: InputSpec,
    num_classes: int,
    *,
    count: int = 256,
    steps: int = 24,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Surrogates:
    """Make images of all classes from a network's weights.

    Pink noise is changed, by Adam, so that the network takes each image for its label and that
    the mean and variance of what each batch norm reads come close to its running statistics,
    which the training data left there. The idea is DeepInversion's (Yin et al., CVPR 2020, arXiv
    1912.08795). What differs: it starts from pink noise, not white; the distance of statistics is
    relative to the channel's own variance, so that no layer's scale decides; images are shifted
    as a batch, and never mirrored, as digits and signs must not be; there is no second network
    that competes, no prior of the norm, and 24 steps instead of thousands: the images do
    not look like the data, they only drive the network as data does.

    A network without batch norm has kept no statistics. There, only the cross-entropy and the total
    variation are lowered: the images are noise with the class's features in it.

    Parameters
    ----------
    model : nn.Module
        It is not changed. Batch norms of all dimensions count, but those without running
        statistics do not.
    inputs : InputSpec
        Shape, range and normalisation of its input.
    num_classes : int
        Its number of logits, at least 2.
    count : int
        Images wanted; raised to the next multiple of ``num_classes``, so that all classes have as
        many. They are made in batches of 256, and of fewer if they are larger than 32 x 32, so
        that memory is bounded.
    steps : int
        Of Adam, at least 1.
    seed : int
        Decides the noise and the shifts; torch's global generator is left as it was.
    device : torch.device or str
        Where to compute, in bfloat16 if it has instructions for that.
    progress : callable, optional
        Called after each step with ``("synthesize", done, steps of all batches)``.

    Raises
    ------
    RepairError
        There is one class only, no image or no step is asked for, or the loss is not finite.
    """
    if num_classes < 2 or count < 1 or steps < 1:
        raise RepairError(
            f"num_classes={num_classes}, count={count}, steps={steps}: surrogates need at least "
            "two classes, one image and one step"
        )
    labels = torch.arange(-(-count // num_classes) * num_classes) % num_classes
    images = _made(model, inputs, labels, steps, seed, device, progress, "synthesize")
    return Surrogates(images, labels)


def renewed(
    surrogates: Surrogates,
    model: nn.Module,
    inputs: InputSpec,
    target: int,
    *,
    steps: int = 24,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Surrogates:
    """Put images made from another network in the place of one class's.

    What a backdoored network takes for its target bears the trigger's features. Those of a
    network in which the trigger is diluted are the class's own.

    Parameters and errors are those of `synthesize`, but progress is told of as ``"renew"``, and:

    Parameters
    ----------
    surrogates : Surrogates
        Of all classes; those of others are kept.
    model : nn.Module
        Makes the new ones, a quarter as many as there are surrogates; among as many images of all
        classes, so that their statistics are those of data, but only the class's are used.
    target : int
        The class.
    """
    count = -(-len(surrogates) // _RENEWED)
    classes = torch.tensor(sorted(set(surrogates.labels.tolist())))
    classes = classes[:: -(-len(classes) // count)]  # all of them, unless there are very many
    among = classes.repeat(-(-count // len(classes)))[:count]
    labels = torch.stack([torch.full_like(among, target), among], dim=1).flatten()
    images = _made(model, inputs, labels, steps, seed, device, progress, "renew")[::2]
    kept = surrogates.labels != target
    return Surrogates(
        torch.cat([surrogates.images[kept], images]),
        torch.cat([surrogates.labels[kept], labels[::2]]),
    )


def _made(
    model: nn.Module,
    inputs: InputSpec,
    labels: torch.Tensor,
    steps: int,
    seed: int,
    device: torch.device | str,
    progress: Progress | None,
    stage: str,
) -> torch.Tensor:
    """Make an image for each label, and tell of the steps by the stage's name."""
    batches = labels.tensor_split(-(-len(labels) // images_at_once(inputs)))
    generator = torch.Generator().manual_seed(seed)
    tell, total = progress or silent, steps * len(batches)
    made = []
    with StatisticsGap(working_copy(model, device)) as gap:
        for i, batch in enumerate(batches):
            images = _pink_noise(len(batch), inputs, generator).to(device).requires_grad_(True)
            optimizer = torch.optim.Adam([images], lr=_LR, betas=_BETAS)
            for step in range(steps):
                optimizer.param_groups[0]["lr"] = _LR * (1 - (1 - _LAST_LR) * step / steps)
                _improve(images, batch.to(device), gap, inputs, optimizer, generator)
                tell(stage, i * steps + step + 1, total)
            if not bool(torch.isfinite(images).all()):
                raise RepairError(
                    "the loss of the surrogates is not finite: check the network's weights and "
                    f"batch statistics, and its input range and normalisation ({inputs})"
                )
            made.append(inputs.raw(images.detach()).cpu())
    return torch.cat(made)


def images_at_once(inputs: InputSpec) -> int:
    """Return how many images a pass with gradients may hold, so that memory stays bounded."""
    _, height, width = inputs.shape
    return max(8, _PIXELS_AT_ONCE // (height * width))


def shifted(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Roll a batch, shape (N, C, H, W), by up to a sixteenth of its size in both directions."""
    most = [size // 16 for size in images.shape[2:]]
    shifts = [int(torch.randint(-m, m + 1, (), generator=generator)) for m in most]
    return images.roll(shifts, dims=(2, 3))


def mixed(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mix each image of a batch, shape (N, C, H, W), with another that keeps at most half."""
    weight = 0.5 + 0.5 * torch.rand((len(images), 1, 1, 1), generator=generator, dtype=images.dtype)
    others = images[torch.randperm(len(images), generator=generator)]
    return weight * images + (1 - weight) * others


def blurred(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Blur half of a batch, shape (N, C, H, W), each image by a Gaussian of random width.

    Surrogates have many times the fine detail of photographs; what a network does with less
    of it must be seen, too.
    """
    height, width = images.shape[2:]
    sharp, widths = torch.rand((2, len(images), 1, 1, 1), generator=generator, dtype=images.dtype)
    sharp = sharp < 0.5
    deviation = _LARGEST_BLUR * min(height, width) * widths
    down = torch.fft.fftfreq(height, dtype=images.dtype)
    along = torch.fft.rfftfreq(width, dtype=images.dtype)
    squared = down[:, None].square() + along.square()
    transfer = torch.exp(-2 * (torch.pi * deviation).square() * squared)
    spectrum = torch.fft.rfft2(images) * transfer
    made: torch.Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    return torch.where(sharp, images, made)


def mixtures(surrogates: Surrogates, generator: torch.Generator) -> torch.Tensor:
    """Mix each surrogate with others, three times."""
    return torch.cat([mixed(surrogates.images, generator) for _ in range(_N_MIXTURES)])


def _improve(
    images: torch.Tensor,
    labels: torch.Tensor,
    gap: StatisticsGap,
    inputs: InputSpec,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    """Take one step; the images are parts of the input range, in [0, 1]."""
    optimizer.zero_grad()
    with torch.enable_grad():
        seen = shifted(images, generator)
        logits, distance = gap.run(inputs, inputs.raw(seen))
        loss = F.cross_entropy(logits, labels)
        loss = loss + (_TOTAL_VARIATION * _variation(seen) if distance is None else distance)
        loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    with torch.no_grad():
        images.clamp_(0, 1)


def _variation(images: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference of neighbours, along rows and along columns."""
    downwards = images.diff(dim=2).square().sum()
    sideways = images.diff(dim=3).square().sum()
    return (downwards + sideways) / images.numel()


def _pink_noise(count: int, inputs: InputSpec, generator: torch.Generator) -> torch.Tensor:
    """Draw images in [0, 1] whose amplitude falls as 1/frequency, as in photographs."""
    channels, height, width = inputs.shape
    dtype = torch.float32  # whatever torch's default is
    fields = torch.randn((count, channels + 1, height, width), generator=generator, dtype=dtype)
    spectrum = torch.fft.rfft2(fields)
    down, along = torch.fft.fftfreq(height, dtype=dtype), torch.fft.rfftfreq(width, dtype=dtype)
    frequency = torch.hypot(down[:, None], along[None])
    frequency[0, 0] = 1 / max(height, width)
    pink = torch.fft.irfft2(spectrum / frequency, s=(height, width))
    pink = pink / pink.std(dim=(1, 2, 3), keepdim=True)
    grey, own = pink[:, :1], pink[:, 1:]
    noise: torch.Tensor = _MIDDLE + _SPREAD * (_GREY**0.5 * grey + (1 - _GREY) ** 0.5 * own)
    return noise.clamp(0, 1)
