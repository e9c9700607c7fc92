"""Our repair as somebody without data uses it: γ, λ and whether to touch the network are chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from otbr_fast.errors import OtbrFastError
from otbr_fast.evaluate.defences.base import Case, Method, Setting, Trial
from otbr_fast.repair import RepairConfig, repair


@dataclass(frozen=True)
class Blind:
    """One repair with the default settings, or with a stage left out to tell what it is worth.

    Parameters
    ----------
    name : str
        The method's.
    changes : mapping of str to object
        What differs from the default settings; a method with changes is an ablation.
    seed : int
        Of all random numbers.
    """

    name: str = "ours"
    changes: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0

    @property
    def methods(self) -> tuple[Method, ...]:
        """The method, with one trial."""
        used: dict[str, Setting] = self._config().model_dump(exclude={"n_threads"})
        trial = Trial(self.name, used, "chosen blind")
        return (Method(self.name, (trial,), fixed=trial, is_ablation=bool(self.changes)),)

    def repaired(
        self, case: Case, wanted: Sequence[Trial]
    ) -> Iterator[tuple[Trial, nn.Module | OtbrFastError]]:
        """Repair once."""
        config = self._config().but(n_threads=case.n_threads)
        for trial in wanted:
            result = repair(
                case.model,
                case.inputs,
                config,
                num_classes=case.num_classes,
                device=case.device,
                progress=case.progress,
            )
            yield trial, result.model

    def _config(self) -> RepairConfig:
        return RepairConfig.model_validate({"seed": self.seed, **self.changes})
