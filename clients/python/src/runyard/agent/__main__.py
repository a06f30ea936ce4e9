"""Runs the agent: `python -m runyard.agent --root ROOT --base-url URL`."""

from __future__ import annotations

import sys

from runyard.agent.main import main

if __name__ == "__main__":
    sys.exit(main())
