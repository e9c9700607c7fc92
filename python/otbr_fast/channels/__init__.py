"""The channels of a network: where they are made, carried and read, found by tracing."""

from otbr_fast.channels.access import permuted, rows, with_rows
from otbr_fast.channels.checking import check_graph, check_structure
from otbr_fast.channels.graph import Axis, ChannelGraph, FixedAxis, Kind, Space
from otbr_fast.channels.spaces import channel_graph
from otbr_fast.channels.tracing import example_input

__all__ = [
    "Axis",
    "ChannelGraph",
    "FixedAxis",
    "Kind",
    "Space",
    "channel_graph",
    "check_graph",
    "check_structure",
    "example_input",
    "permuted",
    "rows",
    "with_rows",
]
