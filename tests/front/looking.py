"""What the tests of the viewer share: a run's index, a site, and trajectories by their last words."""

from __future__ import annotations

import random
from pathlib import Path

from made_up import Words, episode

from quintain.viewer.index import Index
from quintain.viewer.pages import Site
from quintain.viewer.runs import open_runs


def indexed(*folders: Path) -> Index:
    index = Index(open_runs(folders))
    index.scan()
    while index.work(1.0):
        pass
    return index


def site_of(*folders: Path) -> Site:
    site = Site(open_runs(folders))
    site.index = indexed(*folders)
    return site


def lines(*texts: str) -> list[str]:
    """Return a trajectory as a line for each text: its last reply."""
    rng, words = random.Random(1), Words()
    return [
        episode(rng, words, f"rl-1-0-{n}", 0, n, (3, 4, 5), True, text).to_json() + "\n"
        for n, text in enumerate(texts)
    ]
