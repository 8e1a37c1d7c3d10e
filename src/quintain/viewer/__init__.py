"""`quintain view RUN...`: a local web page of one or several runs, while they train or after.

Rooms: `runs` (the folders that are open), `index` (their trajectories in a table), `filters` (what the URL asks of it),
`tokens` (the text of token ids), `talk` (one episode for people), `overview`, `curves_page`, `compare` (what the pages
show), `pages` and `serve` (the server). It reads run folders and writes nothing.
"""

from .serve import view

__all__ = ["view"]
