"""The stage `pairs`: a model plays groups of episodes, a verifier scores them, preferences come out."""

from __future__ import annotations

from ...tools.errors import UserError
from ..metrics import Event
from ..models import TINY
from .encode import tokenizer_mark
from .fit import load_trainee
from .pairs import pairs_from_groups
from .pairs_config import PairsConfig
from .preference import write_preferences
from .sampling import sample_groups
from .stage import StageRun, find_stage


def run_stage(run: StageRun[PairsConfig]) -> None:
    """Play, pair and write; see `stage.StageRun`. Raises `UserError` where no group gave a pair."""
    config = run.config
    play = config.play
    run.tell(Event("prepare", 0, 0, message=f"model {config.model.path}"))
    if config.model.path == TINY:
        raise UserError(
            "model.path = 'tiny' knows no words before it was trained: name the folder of a model"
        )
    trainee = load_trainee(config)
    run.tell(Event("prepare", 0, 0, message=f"{play.groups} x {play.group_size} episodes"))
    played, tools = sample_groups(
        run,
        play,
        trainee.model,
        trainee.tokenizer,
        trainee.codec,
        phase="pairs",
        step=0,
        groups=play.groups,
        size=play.group_size,
    )
    found = pairs_from_groups(
        played,
        choose=play.choose,
        gap=play.gap,
        tools=tools,
        tokenizer=tokenizer_mark(trainee.tokenizer),
    )
    counts = {
        "pairs": len(found.preferences), "groups": found.groups, "groups_without_pair": found.silent,
        "ungraded": found.ungraded, "ties": found.tied, "identical": found.identical, "unwritten": found.unwritten,
    }  # fmt: skip
    told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count)
    run.tell(Event("prepare", 0, 0, {name: float(count) for name, count in counts.items()}, message=told))
    if not found.preferences:
        raise UserError(
            f"no group gave a pair ({told}): a model that is always right, or never, has nothing to compare; "
            "play more groups, larger ones, or other tasks"
        )
    write_preferences(run.folder / find_stage(config.stage).makes, found.preferences)
