"""The attacks by name."""

from __future__ import annotations

from collections.abc import Callable

from otbr_fast.errors import AttackError
from otbr_fast.evaluate.attacks.additive import Blended, LowFrequency, Sig
from otbr_fast.evaluate.attacks.base import Attack
from otbr_fast.evaluate.attacks.input_aware import InputAware
from otbr_fast.evaluate.attacks.patches import BadNet, Trojan
from otbr_fast.evaluate.attacks.ssba import SsbaLike
from otbr_fast.evaluate.attacks.wanet import WaNet

_MAKERS: dict[str, Callable[[int, int], Attack]] = {  # from the channels and a seed
    "badnet": lambda channels, seed: BadNet(),
    "blended": lambda channels, seed: Blended(seed=seed),
    "sig": lambda channels, seed: Sig(),
    "low_frequency": lambda channels, seed: LowFrequency(seed=seed),
    "trojan": lambda channels, seed: Trojan(seed=seed),
    "wanet": lambda channels, seed: WaNet(seed=seed),
    "input_aware": lambda channels, seed: InputAware(channels, seed=seed),
    "ssba_like": lambda channels, seed: SsbaLike(seed=seed),
}

ATTACKS = tuple(_MAKERS)
"""Names that `make_attack` takes."""


def make_attack(name: str, channels: int, seed: int = 0) -> Attack:
    """Return an attack at its usual strength.

    Parameters
    ----------
    name : str
        One of `ATTACKS`.
    channels : int
        Of the images: 1 or 3.
    seed : int
        Of the attack's pattern, field or networks, where it has some.

    Raises
    ------
    AttackError
        There is no such attack.
    """
    if name not in _MAKERS:
        raise AttackError(f"there is no attack {name!r}; there are {', '.join(ATTACKS)}.")
    return _MAKERS[name](channels, seed)
