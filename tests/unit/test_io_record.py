from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from otbr_fast.errors import CheckpointError, EvaluationDataError, OutputExistsError
from otbr_fast.evaluate import EvaluationSet
from otbr_fast.io import load_checkpoint, load_record, save_defense_result, state_dict_hash
from otbr_fast.models import PreActResNet

LABELS = {0: (2, 1), 3: (2, 4), 12: (2, 0)}  # index: the attack's label, the original one
RAN_IN = "record/tiny/bd_test_dataset"


@pytest.fixture
def content(tiny_resnet: PreActResNet) -> dict[str, Any]:
    """What BackdoorBench puts into attack_result.pt, with numpy's numbers where it has them."""
    samples = {
        np.int64(index): {
            "path": f"{RAN_IN}/{original}/{index}.png",
            "other_info": [target, np.int64(original)],
        }
        for index, (target, original) in LABELS.items()
    }
    return {
        "model_name": "preactresnet18",
        "num_classes": 5,
        "model": tiny_resnet.state_dict(),
        "data_path": "./data/cifar10",
        "img_size": (8, 8, 3),
        "clean_data": "cifar10",
        "bd_train": None,
        "bd_test": {
            "bd_data_container": {"save_folder_path": RAN_IN, "data_dict": samples},
            "original_index_array": np.array(list(LABELS)),
            "poison_indicator": np.ones(13),
        },
    }


@pytest.fixture
def record(tmp_path: Path, content: dict[str, Any]) -> Path:
    folder = tmp_path / "tiny"
    for index, (_, original) in LABELS.items():
        image = folder / "bd_test_dataset" / str(original) / f"{index}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (index, 20, 30)).save(image)
    torch.save(content, folder / "attack_result.pt")
    return folder


@pytest.mark.parametrize(("dataset", "size"), [("mnist", (32, 32, 3)), ("cifar10", (32, 32, 1))])
def test_images_that_are_not_the_data_sets_are_told(
    record: Path, content: dict[str, Any], dataset: str, size: tuple[int, int, int]
) -> None:
    torch.save({**content, "clean_data": dataset, "img_size": size}, record / "attack_result.pt")
    with pytest.raises(CheckpointError, match=f"'{dataset}' with images of .*; write one"):
        load_checkpoint(record)


def test_a_record_is_read(record: Path, tiny_resnet: PreActResNet) -> None:
    read = load_record(record)
    assert (read.model_name, read.num_classes, read.dataset) == ("preactresnet18", 5, "cifar10")
    assert read.img_size == (8, 8, 3)
    assert read.target == 2
    assert state_dict_hash(read.state_dict) == state_dict_hash(tiny_resnet.state_dict())
    assert [(p.target_label, p.original_label) for p in read.poisoned] == list(LABELS.values())
    assert read.poisoned[1].path == record / "bd_test_dataset" / "4" / "3.png"


@pytest.mark.parametrize("name", ["", "attack_result.pt"])
def test_a_record_is_a_checkpoint(record: Path, name: str) -> None:
    checkpoint = load_checkpoint(record / name)
    assert checkpoint.record is not None
    assert checkpoint.path == record / "attack_result.pt"
    assert checkpoint.build()[1] == "preactresnet18"
    assert checkpoint.description is not None
    assert checkpoint.description.input_spec().shape == (3, 8, 8)
    assert checkpoint.description.mean == (0.4914, 0.4822, 0.4465)
    assert checkpoint.description.attack is not None
    assert checkpoint.description.attack.target == 2


def test_a_dataset_of_unknown_normalisation_is_not_guessed(
    record: Path, content: dict[str, Any]
) -> None:
    torch.save({**content, "clean_data": "mine"}, record / "attack_result.pt")
    checkpoint = load_checkpoint(record)
    assert checkpoint.description is None
    assert checkpoint.build()[1] == "preactresnet18"


def test_poisoned_images_and_labels(record: Path) -> None:
    evaluation_set = EvaluationSet.from_record(load_record(record))
    poisoned = evaluation_set.poisoned
    assert poisoned is not None
    assert evaluation_set.target == 2
    assert poisoned.images.shape == (3, 3, 8, 8)
    assert poisoned.images[:, 0, 0, 0].tolist() == [0, 3, 12]
    assert bool((poisoned.images[:, 2] == 30).all())
    assert poisoned.target_labels.tolist() == [2, 2, 2]
    assert poisoned.original_labels.tolist() == [1, 4, 0]


def test_several_targets_are_kept_image_by_image(record: Path, content: dict[str, Any]) -> None:
    samples = content["bd_test"]["bd_data_container"]["data_dict"]
    samples[np.int64(3)]["other_info"] = [0, 4]
    torch.save(content, record / "attack_result.pt")
    evaluation_set = EvaluationSet.from_record(load_record(record))
    assert evaluation_set.target is None
    assert evaluation_set.poisoned is not None
    assert evaluation_set.poisoned.target_labels.tolist() == [2, 0, 2]


@pytest.mark.parametrize(
    "damage",
    [
        lambda image: image.unlink(),
        lambda image: image.write_bytes(b"no image"),
        lambda image: image.write_bytes(image.read_bytes()[:45]),
        lambda image: Image.new("RGB", (8, 9)).save(image),
    ],
)
def test_missing_and_damaged_images_are_named(
    record: Path, damage: Callable[[Path], object]
) -> None:
    damage(record / "bd_test_dataset" / "4" / "3.png")
    with pytest.raises(EvaluationDataError, match=r"4.3\.png"):
        EvaluationSet.from_record(load_record(record))


def test_windows_paths(record: Path, content: dict[str, Any]) -> None:
    samples = content["bd_test"]["bd_data_container"]["data_dict"]
    samples[np.int64(3)]["path"] = r"..\record\tiny\bd_test_dataset\4\3.png"
    torch.save(content, record / "attack_result.pt")
    assert load_record(record).poisoned[1].path == record / "bd_test_dataset" / "4" / "3.png"


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../../secret.png",
        f"{RAN_IN}/4/../../../3.png",
        f"{RAN_IN}/4/..",
        f"{RAN_IN}/../3.png",
        f"{RAN_IN}/1/3.png",  # the folder of another class
        f"{RAN_IN}/4/three.png",
        "3.png",
        "",
    ],
)
def test_paths_that_lead_elsewhere_are_refused(
    record: Path, content: dict[str, Any], path: str
) -> None:
    content["bd_test"]["bd_data_container"]["data_dict"][np.int64(3)]["path"] = path
    torch.save(content, record / "attack_result.pt")
    with pytest.raises(CheckpointError, match=r"should be stored as .*4.<index>\.png"):
        load_record(record)


def test_links_out_of_the_record_are_refused(record: Path, tmp_path: Path) -> None:
    image = record / "bd_test_dataset" / "4" / "3.png"
    image.rename(tmp_path / "3.png")
    image.symlink_to(tmp_path / "3.png")
    with pytest.raises(CheckpointError, match="out of the record"):
        load_record(record)


def test_a_linked_image_folder_is_refused_if_it_leads_out(record: Path, tmp_path: Path) -> None:
    images = record / "bd_test_dataset"
    images.rename(tmp_path / "elsewhere")
    images.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="out of the record"):
        load_record(record)


def test_a_link_to_the_whole_record_is_followed(record: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(record)
    assert len(EvaluationSet.from_record(load_record(link)).poisoned or ()) == 3


def test_links_in_a_circle_are_refused(record: Path) -> None:
    image = record / "bd_test_dataset" / "4" / "3.png"
    image.unlink()
    image.symlink_to(image)
    with pytest.raises(EvaluationDataError, match=r"3\.png"):
        EvaluationSet.from_record(load_record(record))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 4}, r"labels 2 and 4.*only 4 classes"),
        ({"num_classes": "many"}, "num_classes|integer"),
        ({"img_size": (8, 8)}, "img_size"),
        ({"img_size": (8, 8, 0)}, r"img_size\.2"),
        ({"model": {"conv1.weight": [1.0]}}, r"model\.conv1\.weight"),
        ({"model": {}}, "no named tensors"),
        ({"bd_test": None}, "bd_test"),
        ({"bd_test": {"x": torch.zeros(1), "y": torch.zeros(1)}}, "bd_data_container"),
        ({"clean_data": 3}, "clean_data"),
    ],
)
def test_what_is_no_record_is_refused(
    record: Path, content: dict[str, Any], change: dict[str, object], message: str
) -> None:
    torch.save({**content, **change}, record / "attack_result.pt")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(record)


def test_a_list_is_no_record(record: Path) -> None:
    torch.save([1, 2], record / "attack_result.pt")
    with pytest.raises(CheckpointError, match="not a record of BackdoorBench"):
        load_record(record)


@pytest.mark.parametrize("key", ["model_name", "num_classes", "model", "img_size", "bd_test"])
def test_missing_keys_are_named(record: Path, content: dict[str, Any], key: str) -> None:
    del content[key]
    torch.save(content, record / "attack_result.pt")
    with pytest.raises(CheckpointError, match=f"{key}: Field required"):
        load_record(record)


def test_a_defence_is_left_in_the_record(record: Path, tiny_resnet: PreActResNet) -> None:
    weights = tiny_resnet.state_dict()
    summary = {"gamma": 0.1, "test_asr": 0.25, "test_acc": 0.5, "tcr": None}
    path = save_defense_result(record, "preactresnet18", 5, weights, summary)

    assert path == record / "defense" / "otbr" / "defense_result.pt"
    saved = torch.load(path, weights_only=True)
    assert list(saved) == ["model_name", "num_classes", "model"]
    assert (saved["model_name"], saved["num_classes"]) == ("preactresnet18", 5)
    assert list(saved["model"]) == list(weights)
    assert {tensor.device.type for tensor in saved["model"].values()} == {"cpu"}
    assert state_dict_hash(load_checkpoint(path).state_dict) == state_dict_hash(weights)

    with (path.parent / "otbr_df_summary.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["", "test_acc", "test_asr", "test_ra", "gamma", "tcr"]
    assert rows == [["last", "0.5", "0.25", "", "0.1", ""]]


def test_a_defence_is_not_overwritten(record: Path) -> None:
    path = save_defense_result(record, "a", 5, {"w": torch.zeros(1)}, {})
    path.with_name("otbr_df_summary.csv").unlink()
    with pytest.raises(OutputExistsError, match=r"defense_result\.pt"):
        save_defense_result(record, "b", 5, {"w": torch.ones(1)}, {})
    assert [p.name for p in path.parent.iterdir()] == ["defense_result.pt"]
    save_defense_result(record, "b", 5, {"w": torch.ones(1)}, {}, overwrite=True)
    assert torch.load(path, weights_only=True)["model_name"] == "b"


def test_a_broken_defence_is_not_written(record: Path) -> None:
    with pytest.raises(CheckpointError, match=r"NaN or infinite values in w: .* not saved"):
        save_defense_result(record, "a", 5, {"w": torch.tensor([torch.nan])}, {})
    assert not (record / "defense").exists()
