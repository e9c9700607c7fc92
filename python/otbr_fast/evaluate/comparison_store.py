"""What trials came to, one file each, so that none is computed twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from otbr_fast.errors import OtbrFastError
from otbr_fast.evaluate.defences import Setting
from otbr_fast.evaluate.metrics import Metrics
from otbr_fast.io import write_file
from otbr_fast.io.faults import faults

_KEY_LENGTH = 24


class Facts(BaseModel):
    """All that an outcome depends on: another value of any of these is another outcome.

    Parameters
    ----------
    code : str
        Hash of this package's files: what others found is not passed off as this one's.
    weights, inputs : str
        The network's hash, and what it is fed.
    method, settings
        As in a `Trial`.
    test_data : str
        Hash of the images, labels and target that it is measured on.
    training_data : str, optional
        Hash of the images that the method uses.
    device : str
        Where it is computed: numbers of a CPU and a GPU differ in their last bits.
    versions : mapping
        From `otbr_fast.show_versions`, and PyTorch's threads: so do those of other threads and
        instruction sets, and a network may be repaired in another way for them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    weights: str
    inputs: str
    method: str
    settings: Mapping[str, Setting]
    test_data: str
    training_data: str | None = None
    device: str
    versions: Mapping[str, str | int | None]

    @property
    def key(self) -> str:
        """What the facts are filed under."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return f"{self.method}-{hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]}"


class Outcome(BaseModel):
    """What came of one trial.

    Parameters
    ----------
    facts : Facts
        What it depends on.
    metrics : Metrics, optional
        Of the repaired network; ``None`` if there is none.
    error : str, optional
        Why there is none.
    seconds, measuring_seconds : float
        Wall time of making the network, and of measuring it. What several trials share, such as
        an unlearning, counts for the first that was made with it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    facts: Facts
    metrics: Metrics | None
    error: str | None = None
    seconds: float
    measuring_seconds: float


@dataclass(frozen=True)
class Store:
    """A folder of outcomes; each is written whole or not at all, as soon as it is known.

    A refusal is an outcome too. To have something computed again, delete its file.
    """

    folder: Path

    def load(self, facts: Facts) -> Outcome | None:
        """Return the outcome under these facts, if it is known.

        Raises
        ------
        OtbrFastError
            The file is damaged.
        """
        path = self._path(facts)
        try:
            return Outcome.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise OtbrFastError(
                f"{path} is damaged ({faults(error)}); delete it, and it is computed again."
            ) from error

    def save(self, outcome: Outcome) -> None:
        """Write an outcome."""
        with write_file(self._path(outcome.facts), overwrite=True) as draft:
            draft.write_text(outcome.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def _path(self, facts: Facts) -> Path:
        return self.folder / f"{facts.key}.json"
