"""Ways to a class: the kind of perturbation that leads to the suspect and to no other class."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import nn

from otbr_fast.models import InputSpec
from otbr_fast.repair import sized_kind, wave_kind, ways
from otbr_fast.repair.kinds import spreads_above
from otbr_fast.repair.patch import AREAS
from otbr_fast.repair.probe import RADII, Probe
from otbr_fast.repair.surrogates import Surrogates
from otbr_fast.repair.warp import SHIFTS, warped
from otbr_fast.repair.waves import LeadingWaves, TriedWaves, try_waves
from otbr_fast.repair.ways import easiest_ways

SIZE, CLASSES_HERE, SUSPECT = 16, 10, 2
INPUTS = InputSpec(shape=(3, SIZE, SIZE))
N = 3 * SIZE * SIZE


class Rivals(nn.Module):
    """Classes have directions of their own; dense changes of rms 0.08 lead from each to each.

    The suspect has another way: a dense direction that takes much less; a patch of 5 x 5, as the
    more is gained the more of it is there; a shift of all pixels along the image; or stripes, which
    have no effect while they are faint.
    """

    def __init__(self, trigger: str) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.directions = nn.Parameter(torch.randn((CLASSES_HERE, N), generator=generator) / N**0.5)
        self.trigger = trigger

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        moved = x.flatten(1) - 0.5
        logits = 4 * moved @ self.directions.T
        led = torch.zeros_like(logits)
        if self.trigger == "dense":
            led[:, SUSPECT] = 20 * moved @ self.directions[SUSPECT].roll(7)
        elif self.trigger == "patch":
            led[:, SUSPECT] = 45 * (x[:, :, 2:7, 2:7].mean(dim=(1, 2, 3)) - 0.4).relu().square()
        elif self.trigger == "warp":
            images = self.directions.view(-1, 3, SIZE, SIZE)
            shifted = warped(images, SHIFTS[1] * torch.tensor([1.0, 0.0]).view(1, 2, 1, 1))
            gained = moved @ (shifted - images).flatten(1).T
            led[:, SUSPECT] = 60 * (logits.softmax(dim=1) * gained).sum(dim=1).relu()
        elif self.trigger == "wave":
            stripes = torch.cos(2 * math.pi * 3 * torch.arange(SIZE) / SIZE)
            led[:, SUSPECT] = 3e4 * ((x * stripes).mean(dim=(1, 2, 3)).square() - 0.003).relu()
        return logits + led


def some_surrogates() -> Surrogates:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(100) % CLASSES_HERE
    moved = 2 * Rivals("none").directions.detach()[labels].view(-1, 3, SIZE, SIZE)
    noise = 0.02 * torch.randn(moved.shape, generator=generator)
    return Surrogates((0.5 + moved + noise).clamp(0, 1), labels)


@pytest.mark.parametrize("kind", ["dense", "patch", "warp", "wave"])
def test_the_kind_of_the_trigger_is_told(kind: str) -> None:
    (way,) = easiest_ways(Rivals(kind), INPUTS, some_surrogates(), SUSPECT, CLASSES_HERE)
    assert way.kind == kind
    assert way.lead > 0.5
    assert all(p.target == SUSPECT for p in (*way.probes, *way.held_out))
    assert all(p.success > (0.5 if kind == "warp" else 0.8) for p in way.probes)
    assert way.held_out
    taught = {tuple(p.perturbation.flatten().tolist()) for p in way.probes}
    assert not taught & {tuple(p.perturbation.flatten().tolist()) for p in way.held_out}


def test_where_no_kind_stands_out_there_are_probes_all_the_same() -> None:
    (way,) = easiest_ways(Rivals("none"), INPUTS, some_surrogates(), SUSPECT, CLASSES_HERE)
    assert way.lead < 0.8
    assert way.probes
    assert way.held_out


def leads_nowhere(*given: object, **_: object) -> Probe:
    return Probe(int(str(given[3])), 0.0, torch.zeros(INPUTS.shape), 0.0, 1.0)


@pytest.mark.parametrize(
    ("successes", "radius"),
    [
        # Of a radius: to the suspect, to the others.
        ({0.036: (0.3, 0.0), 0.054: (0.88, 0.1), 0.072: (1.0, 0.7), 0.108: (1.0, 1.0)}, 0.054),
        ({0.036: (0.3, 0.0), 0.054: (0.5, 0.1), 0.072: (1.0, 0.35), 0.108: (1.0, 1.0)}, 0.072),
        ({0.036: (0.3, 0.0), 0.054: (0.4, 0.0), 0.072: (0.8, 0.7), 0.108: (0.9, 0.9)}, 0.054),
        ({0.036: (0.1, 0.0), 0.054: (0.2, 0.1), 0.072: (0.5, 0.3), 0.108: (0.6, 0.2)}, 0.108),
        # The first that leads is clear, and so are two that are larger.
        ({0.018: (0.95, 0.0), 0.027: (1.0, 0.05), 0.036: (1.0, 0.15), 0.054: (1.0, 0.3)}, 0.036),
        # So are two that are larger, but the one between is not.
        ({0.018: (0.95, 0.0), 0.027: (1.0, 0.3), 0.036: (1.0, 0.15), 0.054: (1.0, 0.1)}, 0.018),
    ],
)
def test_the_size_by_which_the_suspect_is_clearest_is_taken(
    successes: dict[float, tuple[float, float]], radius: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(*given: object, radius: float, **_: object) -> Probe:
        target = int(str(given[3]))
        success = successes.get(radius, (0.0, 0.0))[target != SUSPECT]
        return Probe(target, radius, torch.zeros(INPUTS.shape), success, 1 - success)

    monkeypatch.setattr(ways, "universal_perturbation", found)
    for other in ("patch_perturbation", "warp_perturbation"):
        monkeypatch.setattr(ways, other, leads_nowhere)
    (way,) = easiest_ways(Rivals("none"), INPUTS, some_surrogates(), SUSPECT, CLASSES_HERE)
    assert way.probes[0].radius == radius
    assert way.lead == pytest.approx(successes[radius][0] - successes[radius][1])


def test_waves_that_act_only_at_their_full_size_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float] = []

    def found(*given: object, **_: object) -> LeadingWaves:
        waves = given[4]
        assert isinstance(waves, TriedWaves)
        tried.append(waves.radius)
        leads = waves.radius == RADII[-1]
        probe = Probe(SUSPECT, waves.radius, torch.zeros(INPUTS.shape), 1.0, 0.0)
        return LeadingWaves((probe,) * leads, (probe,) * leads, (0.25,) * 9)

    monkeypatch.setattr(wave_kind, "leading_waves", found)
    monkeypatch.setattr(sized_kind, "_CLEAR_LEAD", 2.0)
    (way,) = easiest_ways(Rivals("none"), INPUTS, some_surrogates(), SUSPECT, CLASSES_HERE)
    assert tried[-1] == RADII[-1]
    assert len(set(tried)) == len(tried)
    assert way.kind == "wave"
    assert way.lead == 0.75


def test_kinds_are_compared_where_few_are_led_to_other_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Patches have the larger lead in the end, but warps lead to no other class at first."""
    led = {
        "radius": {RADII[-2]: (0.5, 0.2, 0.3), RADII[-1]: (1.0, 0.5, 0.9)},
        "area": {AREAS[1]: (0.5, 0.0, 0.2), AREAS[2]: (1.0, 0.1, 0.2)},
        "shift": {SHIFTS[1]: (0.4, 0.0, 0.02), SHIFTS[2]: (0.7, 0.1, 0.3)},
    }

    def found(*given: object, **settings: float) -> Probe:
        target = int(str(given[3]))
        name = next(name for name in led if name in settings)
        to_suspect, even, odd = led[name].get(settings[name], (0.0, 0.0, 0.0))
        success = to_suspect if target == SUSPECT else odd if target % 2 else even
        return Probe(target, settings[name], torch.zeros(INPUTS.shape), success, 1 - success)

    for kind in ("universal_perturbation", "patch_perturbation", "warp_perturbation"):
        monkeypatch.setattr(ways, kind, found)
    (way,) = easiest_ways(Rivals("none"), INPUTS, some_surrogates(), SUSPECT, CLASSES_HERE)
    assert way.kind == "warp"
    assert way.probes[0].radius == SHIFTS[2]
    assert way.lead == pytest.approx(0.7 - (4 * 0.1 + 5 * 0.3) / 9)


@pytest.mark.parametrize(
    ("of_warps", "kinds"),
    [
        # To the suspect, to half of the others, to the other half; by 7.0 spreads or not nearly.
        ((0.9, 0.0, 0.24), ("patch", "warp")),
        ((0.9, 0.0, 0.2), ("warp", "patch")),
        ((0.9, 0.0, 0.4), ("patch",)),
        ((0.6, 0.0, 0.1), ("patch",)),  # by 8.5, but with a smaller lead
    ],
)
def test_kinds_that_can_hardly_be_told_apart_are_kept_together(
    of_warps: tuple[float, float, float], kinds: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(*given: object, **settings: float) -> Probe:
        target = int(str(given[3]))
        led = of_warps if "shift" in settings else (1.0, 0.0, 0.24)
        success = led[0] if target == SUSPECT else led[1 + target % 2]
        size = next(iter(settings.values()))
        return Probe(target, size, torch.zeros(INPUTS.shape), success, 1 - success)

    monkeypatch.setattr(ways, "universal_perturbation", leads_nowhere)
    for kind in ("patch_perturbation", "warp_perturbation"):
        monkeypatch.setattr(ways, kind, found)
    found_ways = easiest_ways(Rivals("none"), INPUTS, some_surrogates(), SUSPECT, CLASSES_HERE)
    assert tuple(way.kind for way in found_ways) == kinds


def test_no_more_classes_are_tried_than_tell_that_a_lead_is_not_clear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[float] = []

    def found(*given: object, radius: float, **_: object) -> Probe:
        target = int(str(given[3]))
        success = 1.0 if target == SUSPECT else 0.0 if radius < RADII[1] else 0.95
        if target != SUSPECT:
            tried.append(radius)
        return Probe(target, radius, torch.zeros(INPUTS.shape), success, 1 - success)

    monkeypatch.setattr(ways, "universal_perturbation", found)
    (way,) = easiest_ways(Rivals("none"), INPUTS, some_surrogates(), SUSPECT, CLASSES_HERE)
    assert way.probes[0].radius == RADII[0]
    assert Counter(tried) == {RADII[0]: 9, RADII[1]: 2}  # two lead more than 0.2 of nine


def test_standing_out() -> None:
    assert spreads_above(0.6, [0.1, 0.2, 0.3]) == pytest.approx(0.4 / (0.1 + 0.02))
    assert spreads_above(0.6, [0.1, 0.3]) == pytest.approx(0.4)
    assert spreads_above(0.6, [0.2]) == pytest.approx(0.4)
    assert spreads_above(0.6, [0.0] * 9) == pytest.approx(30)


def test_what_leads_hardly_anyone_does_not_stand_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dense probes lead to no other class, but not to the suspect either."""

    def led(to_suspect: float, to_others: float) -> Callable[..., Probe]:
        def found(*given: object, **_: object) -> Probe:
            target = int(str(given[3]))
            success = to_suspect if target == SUSPECT else to_others
            return Probe(target, 0.1, torch.zeros(INPUTS.shape), success, 1 - success)

        return found

    monkeypatch.setattr(ways, "universal_perturbation", led(0.08, 0.0))
    monkeypatch.setattr(ways, "patch_perturbation", led(1.0, 0.95))
    monkeypatch.setattr(ways, "warp_perturbation", leads_nowhere)
    (way,) = easiest_ways(Rivals("none"), INPUTS, some_surrogates(), SUSPECT, CLASSES_HERE)
    assert way.kind == "patch"


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_have_ways_too(classes: int) -> None:
    model = Rivals("none")
    model.directions = nn.Parameter(model.directions.detach()[:classes])
    generator = torch.Generator().manual_seed(1)
    images = torch.rand((10 * classes, 3, SIZE, SIZE), generator=generator)
    surrogates = Surrogates(images, torch.arange(10 * classes) % classes)
    found = easiest_ways(model, INPUTS, surrogates, 1, classes)
    assert found
    assert all(way.probes and -1 <= way.lead <= 1 for way in found)


@pytest.mark.parametrize(
    ("kind", "thorough", "also"),
    [
        ("dense", True, set()),
        ("patch", True, {"probe (patch)", "probe (warp)", "waves"}),
        ("patch", False, set()),
    ],
)
def test_other_kinds_are_tried_only_where_dense_ones_do_not_stand_out(
    kind: str, thorough: bool, also: set[str]
) -> None:
    told: set[str] = set()
    (way, *_) = easiest_ways(
        Rivals(kind),
        INPUTS,
        some_surrogates(),
        SUSPECT,
        CLASSES_HERE,
        thorough=thorough,
        progress=lambda stage, done, total: told.add(stage),
    )
    assert told == {"probe (dense)"} | also
    assert (way.kind == "patch") == bool(also)


def test_waves_that_were_tried_already_are_not_tried_again() -> None:
    model, surrogates = Rivals("patch"), some_surrogates()
    told: list[str] = []

    def ways_with(waves: TriedWaves | None) -> int:
        told.clear()
        easiest_ways(
            model,
            INPUTS,
            surrogates,
            SUSPECT,
            CLASSES_HERE,
            waves=waves,
            progress=lambda stage, done, total: told.append(stage),
        )
        return told.count("waves")

    largest = try_waves(model, INPUTS, surrogates, CLASSES_HERE)
    assert ways_with(None) - ways_with(largest) == len(largest.losses) > 0


def test_the_same_seed_finds_the_same_way() -> None:
    (one,), (same,) = (
        easiest_ways(Rivals("dense"), INPUTS, some_surrogates(), SUSPECT, CLASSES_HERE, seed=3)
        for _ in range(2)
    )
    assert one.lead == same.lead
    assert torch.equal(one.probes[1].perturbation, same.probes[1].perturbation)


def test_of_many_classes_sixteen_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    targets: list[int] = []

    def found(*given: object, **_: object) -> Probe:
        targets.append(int(str(given[3])))
        success = 0.95 if targets[-1] == SUSPECT else 0.1
        return Probe(targets[-1], 0.1, torch.zeros(INPUTS.shape), success, 1 - success)

    monkeypatch.setattr(ways, "universal_perturbation", found)
    (way,) = easiest_ways(Rivals("none"), INPUTS, some_surrogates(), SUSPECT, 30)
    rivals = [target for target in targets if target != SUSPECT]
    assert len(set(rivals)) == 16
    assert set(rivals) <= set(range(30))
    assert way.lead == pytest.approx(0.85)


def test_images_too_small_for_a_wave_have_ways() -> None:
    small = InputSpec(shape=(3, 3, 3))
    generator = torch.Generator().manual_seed(0)
    last = nn.Linear(27, 4)
    last.weight = nn.Parameter(torch.randn((4, 27), generator=generator))
    model = nn.Sequential(nn.Flatten(), last)
    surrogates = Surrogates(torch.rand((40, 3, 3, 3), generator=generator), torch.arange(40) % 4)
    found = easiest_ways(model, small, surrogates, 1, 4)
    assert {way.kind for way in found} <= {"dense", "patch", "warp"}
    assert found
    assert all(way.probes and way.held_out for way in found)
