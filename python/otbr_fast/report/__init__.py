"""Tables and pictures of what repairs did."""

from otbr_fast.report.documents import csv_text, json_text, write_texts
from otbr_fast.report.sweep import GLOSSARY, NO_HINDSIGHT, Row, SweepReport
from otbr_fast.report.tables import (
    candidate_table,
    layer_table,
    measured_table,
    metric_table,
    pruned_table,
    verdict_table,
)

__all__ = [
    "GLOSSARY",
    "NO_HINDSIGHT",
    "Row",
    "SweepReport",
    "candidate_table",
    "csv_text",
    "json_text",
    "layer_table",
    "measured_table",
    "metric_table",
    "pruned_table",
    "verdict_table",
    "write_texts",
]
