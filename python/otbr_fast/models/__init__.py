"""Networks whose parameter names are BackdoorBench's, and what they expect to be fed."""

from otbr_fast.models.hashing import state_dict_hash
from otbr_fast.models.inputs import InputSpec
from otbr_fast.models.loading import (
    detached,
    load_strictly,
    require_dense,
    require_finite,
    require_fit,
)
from otbr_fast.models.preactresnet import PreActResNet
from otbr_fast.models.precision import bf16_autocast, run, working_copy
from otbr_fast.models.registry import (
    SUPPORTED_MODELS,
    build_model,
    new_model,
    num_classes,
    skeleton,
)
from otbr_fast.models.trial import check_inputs, require_weights
from otbr_fast.models.vgg import VGG

__all__ = [
    "SUPPORTED_MODELS",
    "VGG",
    "InputSpec",
    "PreActResNet",
    "bf16_autocast",
    "build_model",
    "check_inputs",
    "detached",
    "load_strictly",
    "new_model",
    "num_classes",
    "require_dense",
    "require_finite",
    "require_fit",
    "require_weights",
    "run",
    "skeleton",
    "state_dict_hash",
    "working_copy",
]
