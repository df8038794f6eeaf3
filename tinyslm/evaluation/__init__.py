"""Measuring: loss against the floor, exam accuracy, speed, and size."""

from tinyslm.evaluation.exam import ExamResult, take_exam
from tinyslm.evaluation.footprint import Footprint, footprint
from tinyslm.evaluation.latency import Speed, measure_speeds
from tinyslm.evaluation.perplexity import measure_loss

__all__ = [
    "ExamResult",
    "Footprint",
    "Speed",
    "footprint",
    "measure_loss",
    "measure_speeds",
    "take_exam",
]
