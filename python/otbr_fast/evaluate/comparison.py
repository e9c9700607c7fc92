"""Networks through defences, measured; what is known already is not computed again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from torch import nn

from otbr_fast.errors import EvaluationDataError, OtbrFastError, RepairError, UnsupportedModelError
from otbr_fast.evaluate.comparison_inputs import Contender, TrainingData
from otbr_fast.evaluate.comparison_store import Facts, Outcome, Store
from otbr_fast.evaluate.defences import Case, Defence, Method, Trial
from otbr_fast.evaluate.evaluation_set import EvaluationSet
from otbr_fast.evaluate.metrics import Metrics, evaluate
from otbr_fast.repair import Progress
from otbr_fast.repair.progress import silent
from otbr_fast.versions import code_hash, show_versions

BEFORE = "before"
"""The method that leaves a network as it came."""

Made = tuple[Trial, nn.Module | OtbrFastError]


@dataclass(frozen=True)
class Untouched:
    """The network as it came, which all others are compared with."""

    @property
    def methods(self) -> tuple[Method, ...]:
        """One trial of nothing."""
        trial = Trial(BEFORE, {})
        return (Method(BEFORE, (trial,), fixed=trial),)

    def repaired(self, case: Case, wanted: Sequence[Trial]) -> Iterator[Made]:
        """Hand back the network."""
        for trial in wanted:
            yield trial, case.model


@dataclass(frozen=True)
class Standing:
    """What is known of one method on one network.

    Parameters
    ----------
    network : str
        The contender's name.
    method : Method
        With all its trials.
    outcomes : tuple of (Trial, Outcome)
        Of the trials that are done, in the method's order.
    """

    network: str
    method: Method
    outcomes: tuple[tuple[Trial, Outcome], ...]


@dataclass(frozen=True)
class _Cell:
    contender: Contender
    defence: Defence
    method: Method
    trial: Trial
    facts: Facts


class Comparison:
    """Networks, defences, and what is known of them.

    Parameters
    ----------
    contenders : sequence of Contender
        The networks.
    defences : sequence of Defence
        What is done to each.
    store : Store
        Where outcomes are found and kept.
    methods : sequence of str, optional
        Leave out all methods but these.
    training : TrainingData, optional
        For the methods that use data, which are left out without it.
    device : str
        Where to compute.
    n_threads : int, optional
        CPU threads of the transport.

    Raises
    ------
    OtbrFastError
        Two networks share a name, or a kept outcome is damaged.
    """

    def __init__(
        self,
        contenders: Sequence[Contender],
        defences: Sequence[Defence],
        store: Store,
        *,
        methods: Sequence[str] | None = None,
        training: TrainingData | None = None,
        device: str = "cpu",
        n_threads: int | None = None,
    ) -> None:
        _refuse_shared_names(contenders)
        self._store, self._training = store, training
        self._device, self._n_threads = device, n_threads
        code = code_hash()
        versions = {**show_versions(), "torch_threads": torch.get_num_threads()}

        def facts(contender: Contender, method: Method, trial: Trial) -> Facts:
            used = training if method.uses_training_data else None
            return Facts(
                code=code,
                weights=contender.weights_hash,
                inputs=contender.inputs.model_dump_json(),
                method=trial.method,
                settings=trial.settings,
                test_data=contender.test_hash,
                training_data=None if used is None else used.hash,
                device=device,
                versions=versions,
            )

        self._cells = [
            _Cell(contender, defence, method, trial, facts(contender, method, trial))
            for contender in contenders
            for defence in (Untouched(), *defences)
            for method in defence.methods
            if methods is None or method.name in (BEFORE, *methods)
            if training is not None or not method.uses_training_data
            for trial in method.trials
        ]
        found = {cell.facts.key: store.load(cell.facts) for cell in self._cells}
        self._known = {key: outcome for key, outcome in found.items() if outcome is not None}

    def run(self, *, progress: Progress = silent, keep: Callable[[], object] | None = None) -> None:
        """Compute what is not known yet.

        Parameters
        ----------
        progress : callable
            Told of the trials done, and of the stages of each.
        keep : callable, optional
            Called after each outcome, which then is in the store and in `standings`.

        Raises
        ------
        EvaluationDataError
            Test or training images do not fit a network. What was computed before is kept.
        """
        progress("trials", self._n_done, len(self._cells))
        for contender, cells in groupby(self._cells, key=lambda cell: cell.contender):
            table = _Table(contender, self._training, self._device, self._n_threads, progress)
            for defence, shared in groupby(cells, key=lambda cell: cell.defence):
                todo = [cell for cell in shared if cell.facts.key not in self._known]
                for outcome in table.outcomes(defence, todo) if todo else ():
                    self._store.save(outcome)
                    self._known[outcome.facts.key] = outcome
                    progress("trials", self._n_done, len(self._cells))
                    if keep is not None:
                        keep()

    @property
    def _n_done(self) -> int:
        return sum(cell.facts.key in self._known for cell in self._cells)

    def standings(self) -> list[Standing]:
        """Return what is known: for each network, the network as it came, then each method."""
        rows: dict[tuple[str, str], list[_Cell]] = {}
        for cell in self._cells:
            rows.setdefault((cell.contender.name, cell.method.name), []).append(cell)
        return [
            Standing(
                network,
                cells[0].method,
                tuple(
                    (cell.trial, outcome)
                    for cell in cells
                    if (outcome := self._known.get(cell.facts.key)) is not None
                ),
            )
            for (network, _), cells in rows.items()
        ]


@dataclass(frozen=True)
class _Table:
    """Where one network is operated on."""

    contender: Contender
    training: TrainingData | None
    device: str
    n_threads: int | None
    progress: Progress

    @cached_property
    def images(self) -> EvaluationSet:
        """Read once, when there is something to measure."""
        return self.contender.read_test()

    def outcomes(self, defence: Defence, cells: Sequence[_Cell]) -> Iterator[Outcome]:
        """Make and measure the networks of some of a defence's trials."""
        case = Case(
            model=self.contender.model,
            inputs=self.contender.inputs,
            num_classes=self.contender.num_classes,
            training_images=None if self.training is None else self.training.read,
            device=self.device,
            n_threads=self.n_threads,
            progress=self.progress,
        )
        left = [cell.trial for cell in cells]
        for trial, made, seconds in _timed(defence.repaired(case, left.copy()), left):
            left.remove(trial)
            start = time.perf_counter()
            found = self._measure(trial, made)
            yield Outcome(
                facts=next(cell.facts for cell in cells if cell.trial == trial),
                metrics=found if isinstance(found, Metrics) else None,
                error=None if isinstance(found, Metrics) else str(found),
                seconds=seconds,
                measuring_seconds=time.perf_counter() - start,
            )
        if left:
            raise RuntimeError(f"{type(defence).__name__} made nothing of {left[0]}")

    def _measure(self, trial: Trial, made: nn.Module | OtbrFastError) -> Metrics | OtbrFastError:
        if not isinstance(made, nn.Module):
            return made
        try:
            return evaluate(
                made,
                self.images,
                self.contender.inputs,
                device=self.device,
                progress=self.progress,
            )
        except EvaluationDataError as error:
            if trial.method == BEFORE:  # then it is the images' fault, and not a repair's
                raise
            return error


def _timed(
    results: Iterator[Made], left: Sequence[Trial]
) -> Iterator[tuple[Trial, nn.Module | OtbrFastError, float]]:
    """Time each result; an error that is raised is the result of all trials that are left."""
    while True:
        start = time.perf_counter()
        try:
            trial, made = next(results)
        except StopIteration:
            return
        except (RepairError, UnsupportedModelError) as error:
            for trial in tuple(left):
                yield trial, error, time.perf_counter() - start
            return
        yield trial, made, time.perf_counter() - start


def _refuse_shared_names(contenders: Sequence[Contender]) -> None:
    names = [contender.name for contender in contenders]
    for name in names:
        if names.count(name) > 1:
            raise OtbrFastError(f"two networks are called {name!r}; rename one of their files.")
