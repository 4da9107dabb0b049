"""Models with known answers, and ``check_attack``: does an attack keep its contract?"""

from __future__ import annotations
import numpy as np, keras
