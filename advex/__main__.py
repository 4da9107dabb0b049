"""``python -m advex`` is the command ``advex``."""

import sys

from advex.cli import main

if __name__ == "__main__":
    sys.exit(main())
