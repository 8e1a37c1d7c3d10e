"""`python -m quintain` is the command `quintain`."""

from __future__ import annotations

import sys

from .cli import main

sys.exit(main())
