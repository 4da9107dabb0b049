"""The command line: ``demo``, ``attack``, ``evaluate``, ``report``.

Each command is a module with ``add`` (its parser), ``run`` (its work, as plain values) and ``show``
(its tables).
"""

from advex.cli.main import main

__all__ = ["main"]
