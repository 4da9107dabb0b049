"""The doctor: fifteen checks of why attacks on a model may fail for the wrong reasons."""

from advex.doctor.call import CHECKS, diagnose
from advex.doctor.diagnosis import Diagnosis, Finding
from advex.doctor.examination import EXAMPLES

__all__ = ["CHECKS", "EXAMPLES", "Diagnosis", "Finding", "diagnose"]
