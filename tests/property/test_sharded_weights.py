"""Any weights, split anyhow: what is read is what was written, and the library reads it too."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from otbr_fast.io import load_checkpoint, safetensors_paths, save_tensors, state_dict_hash

DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.int64,
    torch.uint8,
    torch.bool,
)


@st.composite
def weights(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    names = draw(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=7, unique=True))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    found = {}
    for name in names:
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        values = 4 * torch.rand(shape, generator=generator)
        values = values.transpose(0, -1) if len(shape) > 1 and draw(st.booleans()) else values
        found[f"t{name}"] = values.to(draw(st.sampled_from(DTYPES)))
    return found


@settings(deadline=None, max_examples=40)
@given(state=weights(), size=st.none() | st.integers(1, 300), data=st.data())
def test_written_in_any_order_and_size(
    state: dict[str, torch.Tensor], size: int | None, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(list(state)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_tensors(((name, state[name]) for name in order), state, path, max_shard_bytes=size)
        written = safetensors_paths(state, path, size)
        assert set(Path(folder).iterdir()) == set(written)
        found = load_checkpoint(written[0])
        assert state_dict_hash(found.state_dict) == state_dict_hash(state)
        assert set(found.files) == set(written)
        shards = written if len(written) == 1 else written[1:]
        whole: dict[str, torch.Tensor] = {}
        for shard in shards:
            held = load_file(shard)
            total = sum(tensor.nbytes for tensor in held.values())
            assert size is None or total <= size or len(held) == 1
            whole |= held
        assert state_dict_hash(whole) == state_dict_hash(state)


@settings(deadline=None, max_examples=40)
@given(state=weights(), data=st.data())
def test_split_at_random_by_the_library(
    state: dict[str, torch.Tensor], data: st.DataObject
) -> None:
    places = {name: data.draw(st.integers(0, 3)) for name in state}
    with tempfile.TemporaryDirectory() as folder:
        for place in set(places.values()):
            part = {name: state[name].contiguous() for name in state if places[name] == place}
            save_file(part, Path(folder) / f"part {place}.safetensors")
        named = {name: f"part {place}.safetensors" for name, place in places.items()}
        index = Path(folder) / "x.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": named}))
        assert state_dict_hash(load_checkpoint(folder).state_dict) == state_dict_hash(state)
