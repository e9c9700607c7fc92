from __future__ import annotations

import pytest
import torch

from otbr_fast.evaluate import demo_task
from otbr_fast.io import state_dict_hash

pytest.importorskip("sklearn", reason="the demo's digits come from scikit-learn")


def test_split_is_whole_disjoint_and_decided_by_the_seed() -> None:
    task, same, other = (demo_task.load_demo_task(seed) for seed in (1, 1, 2))
    assert len(task.train) + len(task.test) == 1797
    assert task.test.images.shape == (539, 1, 16, 16)
    assert torch.equal(task.test.images, same.test.images)
    assert not torch.equal(task.test.labels, other.test.labels)


def test_training_is_repeatable_and_leaves_the_global_generator_alone() -> None:
    task = demo_task.load_demo_task()
    state = torch.get_rng_state()
    told: list[tuple[str, int, int]] = []
    models = [
        demo_task.train_backdoored(task, seed, epochs=1, progress=lambda *step: told.append(step))
        for seed in (0, 0, 1)
    ]
    hashes = [state_dict_hash(model.state_dict()) for model in models]
    assert hashes[0] == hashes[1] != hashes[2]
    assert torch.equal(torch.get_rng_state(), state)
    assert told[19] == ("train", 20, 20)
    assert not models[0].training
