"""What a repairable network may be made of, and what each operation does to channels."""

from __future__ import annotations

import builtins
import math
import operator

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

# These keep channel k in place k: what a neuron's plan says of its output stays true behind them.
CHANNELWISE_MODULES: frozenset[type] = frozenset(
    {
        nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout, nn.Dropout2d, nn.Identity,
        nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d,
        nn.CELU, nn.ELU, nn.GELU, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU,
        nn.LogSigmoid, nn.LogSoftmax, nn.Mish, nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Sigmoid,
        nn.Softmax, nn.Softplus, nn.Softsign, nn.Tanh,
    }
)  # fmt: skip
CHANNELWISE_FUNCTIONS: frozenset[object] = frozenset(
    {
        F.max_pool2d, F.avg_pool2d, F.adaptive_max_pool2d, F.adaptive_avg_pool2d,
        F.celu, F.elu, F.gelu, F.hardsigmoid, F.hardswish, F.hardtanh, F.leaky_relu, F.log_softmax,
        F.mish, F.relu, F.relu6, F.relu_, F.selu, F.sigmoid, F.silu, F.softmax, F.softplus, F.tanh,
        torch.relu, torch.relu_, torch.sigmoid, torch.tanh, torch.softmax, torch.log_softmax,
    }
)  # fmt: skip
CHANNELWISE_METHODS = frozenset(
    {"relu", "relu_", "sigmoid", "tanh", "softmax", "log_softmax", "contiguous", "clone"}
)

# Behind these there are no channels any more; a convolution may not follow.
FLATTENING_MODULES: frozenset[type] = frozenset({nn.Flatten, nn.Linear})
FLATTENING_FUNCTIONS: frozenset[object] = frozenset(
    {torch.flatten, torch.mean, torch.reshape, torch.squeeze}
)
FLATTENING_METHODS = frozenset({"flatten", "mean", "reshape", "squeeze", "view"})

ADDING_FUNCTIONS: frozenset[object] = frozenset({operator.add, operator.iadd, torch.add})
ADDING_METHODS = frozenset({"add", "add_"})

# Arithmetic on sizes, as in ``x.view(x.size(0), -1)``.
SIZE_FUNCTIONS: frozenset[object] = frozenset(
    {operator.getitem, operator.add, operator.sub, operator.mul, operator.floordiv,
     builtins.getattr, math.prod}
)  # fmt: skip
SIZE_METHODS = frozenset({"size", "dim", "numel"})
SIZE_ATTRIBUTES = frozenset({"shape", "ndim"})

_TRANSPOSED = "a transposed convolution keeps its neurons on the second axis of its weight"
_NOT_2D = "only two-dimensional convolutions are repaired"
_JOINS = "it lays channels side by side, so one plan no longer fits the next layer's input"
_ATTENTION = "attention has no convolutional neurons"
_GROUPS = "it normalises over several channels together, so moving one changes the others"

REASONS: dict[object, str] = {
    nn.Conv1d: _NOT_2D,
    nn.Conv3d: _NOT_2D,
    nn.ConvTranspose1d: _TRANSPOSED,
    nn.ConvTranspose2d: _TRANSPOSED,
    nn.ConvTranspose3d: _TRANSPOSED,
    nn.LazyConv2d: "its weight has no shape yet; run the model once",
    nn.MultiheadAttention: _ATTENTION,
    nn.Embedding: "an embedding reads indices, and unlearning feeds noise images",
    nn.GroupNorm: _GROUPS,
    nn.LayerNorm: _GROUPS,
    torch.cat: _JOINS,
    torch.concat: _JOINS,
    torch.stack: _JOINS,
    torch.matmul: "a product of two activations mixes channels",
    operator.matmul: "a product of two activations mixes channels",
    F.scaled_dot_product_attention: _ATTENTION,
    F.conv2d: "its weight does not belong to a torch.nn.Conv2d module; use the module",
    F.dropout: "it draws from torch's global generator; use the module torch.nn.Dropout",
}
