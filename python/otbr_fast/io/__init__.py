"""Reading and writing models, their descriptions and BackdoorBench's records."""

from otbr_fast.io.attack_record import attack_record_paths, remove_attack_record, save_attack_record
from otbr_fast.io.channel_graphs import (
    channels_from_yaml,
    channels_to_yaml,
    read_channels,
    write_channels,
)
from otbr_fast.io.checkpoint import Checkpoint, load_checkpoint
from otbr_fast.io.defense import defense_paths, save_defense_result
from otbr_fast.io.description import AttackDescription, ModelDescription, read_description
from otbr_fast.io.files import check_absent, write_file
from otbr_fast.io.record import PoisonedImage, Record, load_record
from otbr_fast.io.saving import safetensors_paths, save_safetensors, save_tensors
from otbr_fast.models import state_dict_hash

__all__ = [
    "AttackDescription",
    "Checkpoint",
    "ModelDescription",
    "PoisonedImage",
    "Record",
    "attack_record_paths",
    "channels_from_yaml",
    "channels_to_yaml",
    "check_absent",
    "defense_paths",
    "load_checkpoint",
    "load_record",
    "read_channels",
    "read_description",
    "remove_attack_record",
    "safetensors_paths",
    "save_attack_record",
    "save_defense_result",
    "save_safetensors",
    "save_tensors",
    "state_dict_hash",
    "write_channels",
    "write_file",
]
