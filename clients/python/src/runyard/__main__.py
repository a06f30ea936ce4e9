"""`python -m runyard` is the command `runyard`."""

import sys

from runyard.cli import main

sys.exit(main())
