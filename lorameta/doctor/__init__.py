"""What this machine can do for a base model: computed from the base's shape, measured on its layers.

`examine` tells it all; `lorameta doctor` prints it.
"""

from __future__ import annotations

from lorameta.doctor.examination import SECONDS, examine
from lorameta.doctor.report import Capability, Mode, Report

__all__ = ["SECONDS", "Capability", "Mode", "Report", "examine"]
