"""Plays the game with one library and prints the rows as JSON."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys

with contextlib.redirect_stdout(sys.stderr):
    rows = importlib.import_module(f"game.{sys.argv[1]}").play()
print(json.dumps(rows))
