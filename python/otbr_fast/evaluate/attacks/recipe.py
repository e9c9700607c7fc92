"""How a network is trained."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

_LARGEST_LR = 1e30  # well within float32


class Recipe(BaseModel):
    """Stochastic gradient descent with Nesterov's momentum, and the augmentation of CIFAR-10.

    The learning rate rises in a line from a tenth of `lr` to `lr`, then falls in a line to
    `lr_end`. To branch attacks from one half-trained network, train that without an attack for
    some epochs to an `lr_end` above 0, then each attack from its weights, with that value as `lr`
    and no warm-up.

    Parameters
    ----------
    epochs : int
        Passes over the training images.
    batch_size : int
        Images in a step.
    lr, lr_end : float
        Highest and last learning rate.
    warmup : float
        Part of all steps in which the learning rate rises.
    momentum, weight_decay : float
        Of the descent.
    pad : int
        Border of the random crops, in pixels; 0 for none.
    flip : bool
        Mirror images at random; not for data where that changes the class (digits, road signs).
    bf16 : bool
        Compute in bfloat16 where the machine has instructions for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=128, ge=2)
    lr: float = Field(default=0.1, gt=0, le=_LARGEST_LR)
    lr_end: float = Field(default=0.0, ge=0, le=_LARGEST_LR)
    warmup: float = Field(default=0.2, ge=0, lt=1)
    momentum: float = Field(default=0.9, gt=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    pad: int = Field(default=4, ge=0)
    flip: bool = True
    bf16: bool = True

    def lr_at(self, done: float) -> float:
        """Return the learning rate after this part of all steps, in [0, 1]."""
        if done < self.warmup:
            return self.lr * (0.1 + 0.9 * done / self.warmup)
        falling = (done - self.warmup) / (1 - self.warmup)
        return self.lr + (self.lr_end - self.lr) * falling
