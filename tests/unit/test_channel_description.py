"""Channel graphs handed in as YAML, and how wrong ones are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from otbr_fast.channels import (
    channel_graph,
    check_graph,
    check_structure,
)
from otbr_fast.errors import ChannelGraphError, OutputExistsError
from otbr_fast.io import channels_from_yaml, channels_to_yaml, read_channels, write_channels

MODEL = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
EXAMPLE = (torch.zeros(2, 5),)
SPACE = """
spaces:
- name: hidden
  kind: internal
  size: 4
  blocks: {blocks}
  writers: [{{tensor: {tensor}, dim: {dim}{more}}}]
  carried: [{{tensor: 0.bias, dim: 0}}]
  readers: [{{tensor: 2.weight, dim: 1}}]
"""


def written(**changes: object) -> str:
    return SPACE.format(**{"blocks": 1, "tensor": "0.weight", "dim": 0, "more": "", **changes})


def test_a_graph_written_to_a_file_is_read_back(tmp_path: Path) -> None:
    graph = channel_graph(MODEL, EXAMPLE)
    path = tmp_path / "channels.yaml"
    write_channels(graph, path)
    assert read_channels(path) == graph
    with pytest.raises(OutputExistsError):
        write_channels(graph, path)
    assert "stride" not in channels_to_yaml(graph)  # what is usual is left out


def test_a_graph_written_by_hand_is_checked_by_what_it_claims() -> None:
    check_graph(MODEL, channels_from_yaml(written()), EXAMPLE)
    check_graph(MODEL, channels_from_yaml(written(blocks=[0, 1, 0, 1])), EXAMPLE)
    wrong = channels_from_yaml(
        written().replace("carried", "readers").replace("readers", "carried", 1)
    )
    check_graph(MODEL, wrong, EXAMPLE)  # roles alone move nothing
    missing = channels_from_yaml(written().replace("  carried: [{tensor: 0.bias, dim: 0}]\n", ""))
    with pytest.raises(ChannelGraphError, match="'hidden' as the graph says changes"):
        check_graph(MODEL, missing, EXAMPLE)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("spaces: [", "no YAML"),
        ("spaces: 3", "spaces"),
        (written(blocks=3), "equal blocks"),
        (written(blocks=[0, 1]), "one a channel"),
        (written(more=", stride: x"), "stride"),
        (written(more=", colour: red"), "colour"),
        (written(more=", entries: [[0], [1], [2]]"), "4 lists of equal length"),
        (written().replace("internal", "outer"), "kind"),
    ],
)
def test_a_malformed_description_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ChannelGraphError, match=reason):
        channels_from_yaml(text)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tensor": "7.weight"}, "no tensor of this name"),
        ({"dim": 2}, "no such axis"),
        ({"more": ", start: 3"}, "entries from 3 to 6"),
        ({"more": ", stride: 0"}, "occurs twice"),
        ({"more": ", groups: 2"}, "groups go with axis 1"),
    ],
)
def test_a_description_of_another_network_is_refused(
    changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(ChannelGraphError, match=reason):
        check_structure(channels_from_yaml(written(**changes)), MODEL.state_dict())


def test_an_entry_in_two_spaces_is_refused() -> None:
    both = written() + written().replace("hidden", "again").replace("\nspaces:", "")
    with pytest.raises(ChannelGraphError, match="'hidden' and 'again'"):
        check_structure(channels_from_yaml(both), MODEL.state_dict())
    same = written() + written().replace("\nspaces:", "")
    with pytest.raises(ChannelGraphError, match="several spaces are called hidden"):
        check_structure(channels_from_yaml(same), MODEL.state_dict())


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ChannelGraphError, match=r"absent\.yaml cannot be read"):
        read_channels(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    "text", ["a: 2020-13-99", "[" * 5000, "{spaces: [{size: 1%s}]}" % ("0" * 30)]
)
def test_yaml_that_python_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(ChannelGraphError, match="description of channels"):
        channels_from_yaml(text)
