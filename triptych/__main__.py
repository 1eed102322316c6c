"""`python -m triptych` is the command line."""

import sys

from triptych.cli.main import main

sys.exit(main())
