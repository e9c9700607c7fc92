"""What the demo leaves behind: its network, test images and trigger, for the other commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from otbr_fast.evaluate import demo_task
from otbr_fast.io import AttackDescription, ModelDescription, save_safetensors, write_file
from otbr_fast.report.documents import json_text, write_texts

MODEL, DESCRIPTION = "backdoored.safetensors", "backdoored.json"
TRIGGER, TEST_IMAGES = "backdoored_trigger.npz", "test.npz"
DEMO_FILES = (MODEL, DESCRIPTION, TRIGGER, TEST_IMAGES)


def write_demo_files(
    folder: Path, model: nn.Module, task: demo_task.DemoTask, *, overwrite: bool = False
) -> None:
    """Write the demo's network and data in the forms that ``otbr-fast sweep`` reads.

    Raises
    ------
    OutputExistsError
        One of `DEMO_FILES` exists in the folder and `overwrite` is false.
    """
    inputs = demo_task.INPUTS
    description = ModelDescription(
        model_name=demo_task.MODEL_NAME,
        num_classes=demo_task.NUM_CLASSES,
        dataset="digits",
        input_shape=inputs.shape,
        input_range=(inputs.low, inputs.high),
        mean=inputs.mean,
        std=inputs.std,
        attack=AttackDescription(
            name="badnet",
            target=demo_task.TARGET,
            label_mode="all2one",
            poison_ratio=demo_task.POISON_RATIO,
        ),
    )
    save_safetensors(model.state_dict(), folder / MODEL, overwrite=overwrite)
    text = json_text(description.model_dump(mode="json", exclude_none=True))
    write_texts({folder / DESCRIPTION: text}, overwrite=overwrite)
    trigger, test = task.trigger, task.test
    arrays = {
        TRIGGER: {"mask": trigger.mask.numpy(), "pattern": trigger.pattern.numpy()},
        TEST_IMAGES: {"images": test.images.numpy(), "labels": test.labels.numpy()},
    }
    for name, content in arrays.items():
        with write_file(folder / name, overwrite) as draft:
            np.savez_compressed(draft, **content)  # type: ignore[arg-type]
