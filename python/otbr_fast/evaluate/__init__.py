"""Judging a model: clean and poisoned images, triggers, and the field's metrics."""

from otbr_fast.evaluate.evaluation_set import EvaluationSet, PoisonedImages
from otbr_fast.evaluate.images import LabeledImages, load_images
from otbr_fast.evaluate.metrics import Metrics, der, evaluate, hder
from otbr_fast.evaluate.triggers import Trigger, load_trigger

__all__ = [
    "EvaluationSet",
    "LabeledImages",
    "Metrics",
    "PoisonedImages",
    "Trigger",
    "der",
    "evaluate",
    "hder",
    "load_images",
    "load_trigger",
]
