"""What can go wrong, as types. Every message names the culprit and what to do about it."""


class OtbrFastError(Exception):
    """Base of all errors that otbr_fast raises on purpose.

    Errors of the `otbr_fast.ot` arguments are `ValueError` and `TypeError` instead, as in numpy
    and POT.
    """


class CheckpointError(OtbrFastError):
    """A model file cannot be read, is refused as unsafe, or does not fit its architecture."""


class UnsupportedModelError(OtbrFastError):
    """A network has a part that cannot be repaired yet; the message names it and says why."""


class RepairError(OtbrFastError):
    """A repair cannot go on without harm (a layer wholly pruned, a weight that is not finite)."""


class EvaluationDataError(OtbrFastError):
    """Evaluation images, labels or triggers are missing, malformed or do not fit the model."""


class AttackError(OtbrFastError):
    """An attack cannot be made as asked: its ratio, its target, or images that do not suit it."""


class OutputExistsError(OtbrFastError):
    """A file would be overwritten without having been asked for."""


class ChannelGraphError(OtbrFastError):
    """A description of a network's channels is malformed, or does not fit the network."""
