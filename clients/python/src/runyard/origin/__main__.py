"""Finds out where a run came from: `python -m runyard.origin --folder RUN_FOLDER --directory DIR …`."""

from __future__ import annotations

import sys

from runyard.origin.main import main

if __name__ == "__main__":
    sys.exit(main())
