"""An ensemble of reward models in one run: members that differ in seed and rows, judged on the same held-out ones.

RUN/members/0, 1 ...      a run of the stage each, resumed where it was stopped
RUN/model/0, 1 ...        the finished models: `RewardModel("RUN/model")` asks all of them
RUN/reward_model.json     what they are worth alone and together, and how far they disagree
"""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ...tools.atomic import write_atomically
from ..metrics import Event
from ..models import pick_device
from .reward_model import REPORT, headline, logits_of, report_of, split_rows
from .reward_model_config import RewardModelConfig
from .reward_rows import RewardRow
from .stage import MODEL, StageRun, linked, run_stage

MEMBERS = "members"
"""The folder of a run that holds those of its members."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a member said of the held-out rows."""

    logits: Sequence[Sequence[float]]
    """Of each side of each row, at its ends."""
    scale: tuple[float, float]
    """Mean and deviation of its logits on its own rows: what `RewardModel` takes off."""


def member_config(config: RewardModelConfig, number: int) -> RewardModelConfig:
    """Return the config of a member: the next seed, a draw of the rows of its own, the ensemble's held-out rows.

    W&B and trackio know the ensemble alone: they take one run of a process at a time.
    """
    return config.model_copy(
        update={
            "members": 1,
            "run": config.run.model_copy(update={"wandb": False, "trackio": False}),
            "name": f"{config.name}-{number}",
            "seed": (config.seed + number) % 2**32,
            "bootstrap": True if config.bootstrap is None else config.bootstrap,
            "split_seed": config.seed if config.split_seed is None else config.split_seed,
        }
    )


def train_members(run: StageRun[RewardModelConfig]) -> None:
    """Train the members one after the other, report on all, and put them together.

    Those that are through are left as they are. Raises what the stage of one member raises.
    """
    config = run.config
    said: list[Said] = []
    rows: list[RewardRow] = []
    for number in range(config.members):
        run.tell(Event("prepare", number, config.members, message=f"member {number + 1} of {config.members}"))
        folder = run.folder / MEMBERS / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        own = member_config(config, number)
        model = run_stage(own, folder, run.show, resume=True)
        told, rows = _asked(own, model)
        said.append(told)
    found = ensemble_report(said, rows)
    alone = [
        json.loads((run.folder / MEMBERS / str(n) / REPORT).read_text("utf-8")) for n in range(len(said))
    ]
    found["rows"] = {"held_out": len(rows)}
    found["members"] = [headline(one) for one in alone]
    write_atomically(run.folder / REPORT, json.dumps(found, indent=2) + "\n")
    metrics = headline(found) | {k: v for k, v in found["disagreement"].items() if v is not None}
    if metrics:
        run.tell(
            Event("check", config.members, config.members, metrics, message="held-out rows, all members")
        )
    _put_together(run.folder, config.members)


def ensemble_report(said: Sequence[Said], rows: Sequence[RewardRow]) -> dict[str, Any]:
    """Return the report on the mean of the members' logits, in plain JSON data, and how far they disagree.

    `disagreement.sigma`: the mean deviation among the members of a logit, each in its own deviations, as `RewardModel`
    reports it. Of pairs also `split`, the share on which not all prefer the same side, and the accuracy where all do
    (`accuracy_agreed`) and where not (`accuracy_split`); None without such pairs.
    """
    together = [
        [statistics.fmean(values) for values in zip(*sides, strict=True)]
        for sides in zip(*(one.logits for one in said), strict=True)
    ]
    sigmas = [
        statistics.stdev(
            (value - one.scale[0]) / one.scale[1] for value, one in zip(values, said, strict=True)
        )
        for sides in zip(*(one.logits for one in said), strict=True)
        for values in zip(*sides, strict=True)
    ]
    found = report_of(together, rows)
    disagreement: dict[str, float | None] = {"sigma": statistics.fmean(sigmas) if sigmas else None}
    if rows and len(rows[0].sides) == 2:
        gaps = [_gaps(one.logits) for one in said]
        agreed = [len({gap > 0 for gap in votes}) == 1 for votes in zip(*gaps, strict=True)]
        right = [float(gap > 0) + 0.5 * (gap == 0) for gap in _gaps(together)]
        disagreement["split"] = 1 - statistics.fmean(agreed)
        for name, wanted in (("accuracy_agreed", True), ("accuracy_split", False)):
            chosen = [r for r, same in zip(right, agreed, strict=True) if same == wanted]
            disagreement[name] = statistics.fmean(chosen) if chosen else None
    return found | {"disagreement": disagreement}


def _gaps(logits: Sequence[Sequence[float]]) -> list[float]:
    """Return the logit of the better side less that of the worse one, of each pair."""
    return [better[0] - worse[0] for better, worse in zip(logits[::2], logits[1::2], strict=True)]


def _asked(config: RewardModelConfig, folder: Path) -> tuple[Said, list[RewardRow]]:
    """Return what a finished member says of the held-out rows, and those."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    model = model.to(pick_device(config.model.device)).eval()
    _, _, held_out = split_rows(config, model, tokenizer)
    sides = [side for row in held_out for side in row.sides]
    mean, deviation = model.config.reward_statistics
    return Said(logits_of(model, sides, int(tokenizer.pad_token_id)), (mean, deviation)), held_out


def _put_together(folder: Path, members: int) -> None:
    """Make the folder of the ensemble, whole or not at all."""
    target = folder / MODEL
    work = target.with_name(f".{target.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    for number in range(members):
        source = folder / MEMBERS / str(number) / MODEL
        shutil.copytree(source, work / str(number), copy_function=linked)
    shutil.rmtree(target, ignore_errors=True)
    work.rename(target)
