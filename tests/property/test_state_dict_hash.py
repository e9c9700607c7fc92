from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from otbr_fast.io import load_checkpoint, save_safetensors, state_dict_hash

_ARRAYS = st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.uint8]).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
        elements={"allow_nan": False, "allow_infinity": False}
        if np.issubdtype(dtype, np.floating)
        else None,
    )
)
_WEIGHTS = st.dictionaries(
    st.text("abc.012", min_size=1, max_size=8),
    _ARRAYS.map(lambda array: torch.from_numpy(np.array(array))),
    min_size=1,
    max_size=4,
)


@given(_WEIGHTS)
@settings(max_examples=50)
def test_the_hash_survives_a_file_and_another_order(weights: dict[str, torch.Tensor]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_safetensors(dict(reversed(weights.items())), path)
        assert state_dict_hash(load_checkpoint(path).state_dict) == state_dict_hash(weights)


@given(_WEIGHTS, st.data())
@settings(max_examples=50)
def test_the_hash_tells_any_change(weights: dict[str, torch.Tensor], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(weights)))
    tensor = weights[name]
    changes = [
        {**weights, name: tensor.unsqueeze(0)},
        {**weights, name: tensor.to(torch.complex128)},
        {**{other: value for other, value in weights.items() if other != name}, name + "x": tensor},
    ]
    if tensor.numel():
        changed = tensor.clone()
        index = data.draw(st.integers(0, tensor.numel() - 1))
        changed.view(-1)[index] = 1 if changed.view(-1)[index] == 0 else 0
        changes.append({**weights, name: changed})
    hashes = {state_dict_hash(changed) for changed in [weights, *changes]}
    assert len(hashes) == len(changes) + 1
