"""Measurements: loss and its distance from the entropy bound, exam accuracy, speed, and size."""

from tinyslm.evaluation.footprint import Footprint, footprint
from tinyslm.evaluation.latency import Speed, measure_speeds
from tinyslm.evaluation.loss import measure_loss
from tinyslm.evaluation.multiple_choice import ExamResult, take_exam

__all__ = ["ExamResult", "Footprint", "Speed", "footprint", "measure_loss", "measure_speeds", "take_exam"]
