"""Triggers: what holds for each of them, on images of any size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn

from otbr_fast.errors import AttackError
from otbr_fast.evaluate.attacks import (
    ATTACKS,
    Attack,
    BadNet,
    Blended,
    InputAware,
    LowFrequency,
    Sig,
    SsbaLike,
    Trojan,
    WaNet,
    make_attack,
)

shapes = st.tuples(
    st.integers(1, 3), st.sampled_from([1, 3]), st.integers(8, 40), st.integers(8, 40)
)


def attack_of(name: str, channels: int, seed: int = 0) -> Attack:
    if name == "input_aware":
        return InputAware(channels, widths=(8, 8, 8), seed=seed)
    return make_attack(name, channels, seed)


def noise(shape: tuple[int, ...], seed: int = 12345) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ATTACKS)
@settings(max_examples=15)
@given(shape=shapes, seed=st.integers(0, 1000))
@torch.no_grad()
def test_images_stay_images_and_the_same_comes_out_again(
    name: str, shape: tuple[int, int, int, int], seed: int
) -> None:
    images = noise(shape, seed)
    before, state = images.clone(), torch.get_rng_state()
    once = attack_of(name, shape[1], seed).apply(images)
    assert once.shape == images.shape
    assert once.dtype == torch.float32
    assert bool(((once >= 0) & (once <= 1)).all())
    assert not torch.equal(once, images)
    assert torch.equal(attack_of(name, shape[1], seed).apply(images), once)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ATTACKS)
@settings(max_examples=10)
@given(shape=shapes)
@torch.no_grad()
def test_an_images_trigger_does_not_depend_on_the_batch(
    name: str, shape: tuple[int, int, int, int]
) -> None:
    images = noise(shape)
    attack = attack_of(name, shape[1])
    alone = torch.cat([attack.apply(image[None]) for image in images])
    torch.testing.assert_close(attack.apply(images), alone, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("attack", "bound"),
    [
        (Blended(), 0.2),
        (Sig(), 40 / 255),
        (LowFrequency(), 32 / 255),
        (LowFrequency(strength=0.02), 0.02),
        (SsbaLike(), 16 / 255),
        (SsbaLike(eps=0.01), 0.01),
    ],
)
@settings(max_examples=15)
@given(shape=shapes)
def test_strength_is_bounded(
    attack: Attack, bound: float, shape: tuple[int, int, int, int]
) -> None:
    images = noise(shape)
    change = float((attack.apply(images) - images).abs().max())
    assert 0.3 * bound < change <= bound + 1e-6


@pytest.mark.parametrize(("attack", "side"), [(BadNet(), 3), (Trojan(), 7)])
@given(shape=shapes)
def test_patches_cover_a_corner_only(
    attack: BadNet | Trojan, side: int, shape: tuple[int, int, int, int]
) -> None:
    mask = attack.trigger((shape[1], shape[2], shape[3])).mask
    expected = max(3, round(side * min(shape[2:]) / 32))
    assert bool((mask[:, -expected:, -expected:] == 1).all())
    assert int(mask.sum()) == shape[1] * expected**2


@pytest.mark.parametrize("name", ["blended", "low_frequency", "trojan", "wanet", "ssba_like"])
def test_the_seed_decides_the_pattern(name: str) -> None:
    images = noise((2, 3, 16, 16))
    assert not torch.equal(
        make_attack(name, 3, 0).apply(images), make_attack(name, 3, 1).apply(images)
    )


def test_a_residual_depends_on_its_image_and_is_fine() -> None:
    first, second = SsbaLike().residual(noise((2, 3, 32, 32)))
    assert float((first - second).abs().mean()) > 0.01
    coarse = torch.nn.functional.avg_pool2d(first[None], 8)
    assert float(coarse.abs().max()) < 0.3 * float(first.abs().max())


def test_low_frequencies_are_low() -> None:
    spectrum = dctn(LowFrequency().pattern((3, 32, 20)).numpy(), axes=(1, 2))
    assert abs(spectrum[:, 0, 0]).max() < 1e-4
    spectrum[:, :4, :4] = 0
    assert abs(spectrum).max() < 1e-4


def test_warps_leave_flat_images_and_shift_little() -> None:
    flat = torch.full((1, 3, 32, 20), 0.5)
    torch.testing.assert_close(WaNet().apply(flat), flat)
    ramp = torch.linspace(0, 1, 32).repeat(1, 1, 32, 1)
    shift = (WaNet().apply(ramp) - ramp).abs() * 31
    assert 0.1 < float(shift.mean()) < 0.5  # of a pixel


@pytest.mark.parametrize("name", ["wanet", "input_aware"])
@torch.no_grad()
def test_decoys_are_images_and_not_the_trigger(name: str) -> None:
    attack = attack_of(name, 3)
    images = noise((4, 3, 9, 14))
    one, same, other = (
        attack.decoy(images, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert bool(((one >= 0) & (one <= 1)).all())
    assert not torch.equal(one, attack.apply(images))
    assert torch.equal(one, other) == (name == "input_aware")  # its decoys are not drawn


def test_patches_too_large_are_told() -> None:
    with pytest.raises(AttackError, match="3 x 3 does not fit images of 3 x 20"):
        BadNet().apply(noise((1, 3, 3, 20)))


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("bad", {}, "there is no attack 'bad'.*badnet, blended"),
        ("blended", {"beta": 1}, "no setting 'beta'; it has alpha"),
        ("badnet", {"size": 2.5}, "size=2.5 .* whole number"),
        ("sig", {"seed_": 1}, "no setting 'seed_'"),
    ],
)
def test_unknown_attacks_and_settings_are_told(
    name: str, given: dict[str, float], message: str
) -> None:
    with pytest.raises(AttackError, match=message):
        make_attack(name, 3, 0, **given)


def test_settings_are_taken() -> None:
    assert make_attack("wanet", 3, 5, s=1, cross_ratio=0) == WaNet(s=1.0, cross_ratio=0.0, seed=5)
    assert make_attack("badnet", 3, size=4.0) == BadNet(size=4)
