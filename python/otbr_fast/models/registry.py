"""From weights to a network: the architectures known by name."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from otbr_fast.errors import CheckpointError, UnsupportedModelError
from otbr_fast.models.loading import load_strictly
from otbr_fast.models.preactresnet import PreActResNet
from otbr_fast.models.vgg import VGG

# Depth of each named network: blocks, or convolutions, in each stage.
_Depths = dict[str, tuple[int, ...]]
_PREACTRESNETS: _Depths = {"preactresnet18": (2, 2, 2, 2), "preactresnet34": (3, 4, 6, 3)}
_VGGS: _Depths = {
    "vgg11_bn": (1, 1, 2, 2, 2),
    "vgg13_bn": (2, 2, 2, 2, 2),
    "vgg16_bn": (2, 2, 3, 3, 3),
    "vgg19_bn": (2, 2, 4, 4, 4),
}
_STEM = 64  # channels of the first layers, in the literature
_ANY_PREACTRESNET, _ANY_VGG = "preactresnet", "vgg_bn"

SUPPORTED_MODELS = (*_PREACTRESNETS, _ANY_PREACTRESNET, *_VGGS, _ANY_VGG)
"""Names that `build_model` takes; those without a number fit any depth."""


def build_model(
    state_dict: Mapping[str, torch.Tensor], model_name: str | None = None
) -> tuple[nn.Module, str]:
    """Build the network that these weights belong to, and load them strictly.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
        Weights under BackdoorBench's names (torchvision's for VGG). Widths, depth, input channels
        and classes are read from them. They are copied.
    model_name : str, optional
        One of `SUPPORTED_MODELS`; inferred from the weights when not given.

    Returns
    -------
    model : nn.Module
        In eval mode, on the CPU, in float32; traceable by ``torch.fx``.
    model_name : str
        The name given or found.

    Raises
    ------
    CheckpointError
        The name is not supported, or the weights do not fit the architecture.
    """
    model, name = skeleton(state_dict, model_name)
    return load_strictly(model, state_dict), name


def skeleton(
    state_dict: Mapping[str, torch.Tensor], model_name: str | None = None
) -> tuple[nn.Module, str]:
    """Build the network that these weights belong to without them, on the ``meta`` device.

    It takes no memory: enough to follow its channels. Parameters and errors are those of
    `build_model`; of the weights only names and shapes are looked at, and most of them not.
    """
    if model_name is not None and model_name not in SUPPORTED_MODELS:
        raise CheckpointError(
            f"model {model_name!r} is not supported; supported are {', '.join(SUPPORTED_MODELS)}."
        )
    model: nn.Module
    if (model_name or _family(state_dict)).startswith("vgg"):
        vgg = VGG.skeleton(state_dict)
        model, depth = vgg, tuple(len(stage) for stage in vgg.stages)
        known, generic = _VGGS, _ANY_VGG
    else:
        resnet = PreActResNet.skeleton(state_dict)
        model, depth = resnet, resnet.num_blocks
        known, generic = _PREACTRESNETS, _ANY_PREACTRESNET
    found = next((name for name, stages in known.items() if stages == depth), generic)
    if model_name is None or model_name == generic:
        return model.eval(), model_name or found
    if model_name != found:
        raise CheckpointError(
            f"{model_name!r} has {known[model_name]} layers in its stages, but the weights have "
            f"{depth}: use {found!r}, or leave the name out."
        )
    return model.eval(), model_name


def new_model(
    model_name: str, in_channels: int, num_classes: int, *, width: float = 1.0, seed: int = 0
) -> nn.Module:
    """Build a network with random first weights, for training.

    Parameters
    ----------
    model_name : str
        One of `SUPPORTED_MODELS` with a number in its name.
    width : float
        Of all layers, as a fraction of the literature's.
    seed : int
        Of the weights; torch's global generator is left as it was.

    Returns
    -------
    nn.Module
        In eval mode, on the CPU. A VGG averages its last features over the image, and has 8 hidden
        units for each channel of its last stage (4096 at full width); torchvision's keeps 7 x 7
        features, which images of 32 x 32 do not have.

    Raises
    ------
    CheckpointError
        There is no such architecture, or the width leaves a layer without channels.
    """
    depths = _PREACTRESNETS.get(model_name) or _VGGS.get(model_name)
    if depths is None:
        known = ", ".join((*_PREACTRESNETS, *_VGGS))
        raise CheckpointError(f"there is no architecture {model_name!r} to train; use {known}.")
    if not math.isfinite(width) or round(_STEM * width) < 1:
        raise CheckpointError(f"a width of {width} leaves no channels; use one from 0.02 up.")
    stages = [round(_STEM * width * 2**i) for i in range(4)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # layers draw their first weights from the global generator
        if model_name in _PREACTRESNETS:
            resnet = PreActResNet(depths, [stages[0], *stages], in_channels, num_classes)
            return resnet.eval()
        widths = [*stages, stages[-1]]
        hidden = 8 * stages[-1]
        convolutions = [[w] * depth for w, depth in zip(widths, depths, strict=True)]
        vgg = VGG(convolutions, in_channels, num_classes, pool_size=1, hidden=(hidden, hidden))
        return vgg.eval()


def num_classes(model: nn.Module) -> int:
    """Return the number of logits: the outputs of the model's last linear layer."""
    last = last_linear(model)
    if last is None:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no linear layer to tell the number of classes from; "
            "give the number of classes."
        )
    return last.out_features


def last_linear(model: nn.Module) -> nn.Linear | None:
    """Return the model's last linear layer, in the order of its modules, if it has one."""
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return linears[-1] if linears else None


def _family(state_dict: Mapping[str, torch.Tensor]) -> str:
    if "features.0.weight" in state_dict:
        return _ANY_VGG
    if "layer1.0.conv1.weight" in state_dict and "linear.weight" in state_dict:
        return _ANY_PREACTRESNET
    shown = ", ".join(list(state_dict)[:3]) or "none at all"
    raise CheckpointError(
        f"the tensors' names ({shown} ...) are of no known architecture; supported are "
        f"{', '.join(SUPPORTED_MODELS)}."
    )
