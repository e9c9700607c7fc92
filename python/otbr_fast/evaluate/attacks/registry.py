"""The attacks by name."""

from __future__ import annotations

from dataclasses import fields

from otbr_fast.errors import AttackError
from otbr_fast.evaluate.attacks.additive import Blended, LowFrequency, Sig
from otbr_fast.evaluate.attacks.base import Attack
from otbr_fast.evaluate.attacks.input_aware import InputAware
from otbr_fast.evaluate.attacks.patches import BadNet, Trojan
from otbr_fast.evaluate.attacks.ssba import SsbaLike
from otbr_fast.evaluate.attacks.wanet import WaNet

_CLASSES: dict[str, type[Attack]] = {
    attack.name: attack
    for attack in (BadNet, Blended, Sig, LowFrequency, Trojan, WaNet, InputAware, SsbaLike)
}

ATTACKS = tuple(_CLASSES)
"""Names that `make_attack` takes."""


def make_attack(name: str, channels: int, seed: int = 0, **settings: float) -> Attack:
    """Return an attack.

    Parameters
    ----------
    name : str
        One of `ATTACKS`.
    channels : int
        Of the images: 1 or 3.
    seed : int
        Of the attack's pattern, field or networks, where it has some.
    **settings : float
        Those of the attack's class that are one number; at their usual values if not given.

    Raises
    ------
    AttackError
        There is no such attack, or it has no such setting, or that is a whole number.
    """
    if name not in _CLASSES:
        raise AttackError(f"there is no attack {name!r}; there are {', '.join(ATTACKS)}.")
    kinds = {f.name: f.type for f in fields(_CLASSES[name]) if f.type in ("int", "float")}  # type: ignore[arg-type]
    found = {key: value for key, value in (("channels", channels), ("seed", seed)) if key in kinds}
    free = {key: kind for key, kind in kinds.items() if key not in found}
    for key, value in settings.items():
        if key not in free:
            raise AttackError(f"{name} has no setting {key!r}; it has {', '.join(free) or 'none'}.")
        if free[key] == "int" and value != int(value):
            raise AttackError(f"{key}={value} of {name} must be a whole number.")
    numbers = {key: int(v) if free[key] == "int" else float(v) for key, v in settings.items()}
    return _CLASSES[name](**found, **numbers)
