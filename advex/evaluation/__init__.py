"""What results say about a model: robust accuracy over radii."""

from advex.evaluation.curves import Curve, curve

__all__ = ["Curve", "curve"]
