"""`quintain dpo`: from preferences to a better policy, offline or in rounds of its own samples.

The losses are TRL's; the tokens and masks are ours, so that in conversations with tools only what the model wrote
counts. The reference's log-probabilities are computed once and kept in the run's folder: no second model is held
while training, with an adapter as without, and a run that goes on holds to the same reference.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypeVar

import torch

from ...tools.atomic import write_atomically
from ...tools.chat import Message
from ...tools.errors import UserError
from ..checkpoint import checkpoints, load_weights, save_checkpoint
from ..metrics import Event
from ..models import TINY, load_model
from .chat_rows import SHOWN, RowError, Rows
from .dpo_config import FREE, DpoConfig
from .dpo_tasks import KtoRow, PairRow, kto_partners, kto_task, pair_task
from .encode import encode_answer, tokenizer_mark
from .fit import Trainee, fit, load_trainee
from .formats import Labelled, read_labelled
from .pairs import Paired, pairs_from_groups
from .preference import (
    Preference,
    Tokens,
    read_preferences,
    settle_ties,
    write_preferences,
)
from .sampling import gold, sample_groups
from .splits import split, strings_of
from .stage import StageRun
from .token_logps import answer_logps

B = TypeVar("B")
F = TypeVar("F")
LONG = "longer than"
FOREIGN = "tokens of another tokenizer"
UNCLEAR = "below min_margin"


def run_stage(run: StageRun[DpoConfig]) -> None:
    """Learn from preferences as the config says; see `stage.StageRun`.

    Raises `UserError` for rows that cannot be used.
    """
    config = run.config
    run.tell(Event("prepare", 0, 0, message=f"model {config.model.path}"))
    if config.model.path == TINY and config.data.path is None:
        raise UserError(
            "model.path = 'tiny' knows no words before it was trained: name the folder of a model"
        )
    texts = strings_of(config.data.path) if config.data.path is not None and config.model.path == TINY else ()
    trainee = load_trainee(config, texts)
    if run.resumed is None:
        gold(run, config.eval, trainee.model, trainee.tokenizer, trainee.codec, 0, "before")
    if config.online is not None:
        _rounds(run, trainee)
    elif config.dpo.loss == "kto":
        _from_labels(run, trainee)
    else:
        _from_pairs(run, trainee)
    gold(run, config.eval, trainee.model, trainee.tokenizer, trainee.codec, run.done, "after")


def _from_pairs(run: StageRun[DpoConfig], trainee: Trainee) -> None:
    config, path = run.config, run.config.data.path
    assert path is not None
    rows = read_preferences(path, config.data.on_bad, what="data.path")
    rows = settle_ties(rows, config.data.ties, f"data.path: {path}")
    pairs = pairs_as_tokens(rows, trainee, config, f"data.path: {path}")
    learned, held_out = split(pairs.kept, lambda one: one.group, config.data.held_out, config.seed)
    _tell_rows(run, pairs.report(), len(learned), len(held_out), len(pairs.skipped))
    _learn_pairs(run, trainee, learned, held_out, "offline", begin=0)


def pairs_as_tokens(rows: Rows[Preference], trainee: Trainee, config: DpoConfig, where: str) -> Rows[PairRow]:
    """Return preferences as tokens: their own where they were sampled with this tokenizer, else rendered.

    Rows that are too long, too unclear, or of another tokenizer are refused or left out as `config.data` says. Raises
    `UserError` where they are refused, or nothing is left.
    """
    data = config.data
    mark, longest = tokenizer_mark(trainee.tokenizer), trainee.longest(data.max_tokens)

    def encoded(one: Preference) -> PairRow:
        if one.margin is not None and one.margin < data.min_margin:
            raise RowError(UNCLEAR)
        if one.tokens is not None and one.tokenizer != mark and data.on_foreign != "render":
            raise RowError(FOREIGN)
        if one.tokens is not None and one.tokenizer == mark:
            chosen, rejected = one.tokens
        else:
            chosen, rejected = (
                encode_answer(trainee.codec, one.prompt, side, one.tools)
                for side in (one.chosen, one.rejected)
            )
        chosen, rejected = fitted(chosen, longest, config), fitted(rejected, longest, config)
        if chosen.ids == rejected.ids:
            raise RowError("identical sides as tokens")
        return PairRow(chosen, rejected, one.group)

    found = settled(rows, rows.refine(encoded), config, where)
    if not found.kept:
        raise UserError(f"{where}: there is nothing to learn from: {found.report()}")
    return found


def fitted(side: Tokens, longest: int, config: DpoConfig) -> Tokens:
    """Return a side of at most `longest` tokens. Raises `RowError` for a longer one that may not be cut."""
    if len(side.ids) <= longest:
        return side
    if config.data.on_long != "cut":
        raise RowError(f"{LONG} {longest} tokens")
    if not any(side.mask[:longest]):
        raise RowError(f"no answer within {longest} tokens")
    return Tokens(side.ids[:longest], side.mask[:longest])


def settled(before: Rows[B], found: Rows[F], config: DpoConfig, where: str) -> Rows[F]:
    """Return `found`, or raise `UserError` for what it left out of `before` that the config refuses."""
    old = {id(one) for one in before.skipped}
    new = [one for one in found.skipped if id(one) not in old]
    data = config.data
    rules = {
        "data.on_long = 'skip' or 'cut'": [
            s for s in new if s.reason.startswith(LONG) and data.on_long == "refuse"
        ],
        "data.on_foreign = 'skip' or 'render'": [
            s for s in new if s.reason == FOREIGN and data.on_foreign == "refuse"
        ],
        "data.on_bad = 'skip'": [
            s
            for s in new
            if not s.reason.startswith(LONG)
            and s.reason not in (FOREIGN, UNCLEAR)
            and data.on_bad == "refuse"
        ],
    }
    for option, refused in rules.items():
        if refused:
            numbers = ", ".join(str(one.row) for one in refused[:SHOWN]) + (
                ", ..." if len(refused) > SHOWN else ""
            )
            raise UserError(
                f"{where}: {len(refused)} rows cannot be used: {refused[0].reason} (rows {numbers}); correct them, or "
                f"set {option}"
            )
    return found


def _from_labels(run: StageRun[DpoConfig], trainee: Trainee) -> None:
    config, path = run.config, run.config.data.path
    assert path is not None
    rows = read_labelled(path, config.data.on_bad, what="data.path")
    longest = trainee.longest(config.data.max_tokens)

    def side(prompt: Sequence[Message], one: Labelled) -> Tokens:
        return fitted(encode_answer(trainee.codec, prompt, one.completion, one.tools), longest, config)

    def encoded(several: list[Labelled]) -> list[tuple[Labelled, Tokens]]:
        return [(one, side(one.prompt, one)) for one in several]

    found = settled(rows, rows.refine(encoded), config, f"data.path: {path}")
    flat = [one for several in found.kept for one in several]
    if len({one.label for one, _ in flat}) < 2:
        raise UserError(
            f"data.path: {path} has labels of one kind alone: kto needs wanted and unwanted answers"
        )
    learned, held_out = split(flat, lambda one: json.dumps(one[0].prompt), config.data.held_out, config.seed)
    _tell_rows(run, found.report(), len(learned), len(held_out), len(found.skipped))
    everything = [*learned, *held_out]
    strangers = [
        side(one.prompt, everything[partner][0])
        for (one, _), partner in zip(everything, kto_partners(len(learned), len(held_out)), strict=True)
    ]
    made = [KtoRow(tokens, one.label, "") for one, tokens in everything]
    reference = _reference(run, trainee, "offline", [*(row.tokens for row in made), *strangers])
    task = kto_task(made[: len(learned)], made[len(learned) :], strangers, reference, config.dpo)
    fit(run, trainee, task, config.optim, eval_every=config.data.eval_every)


def _rounds(run: StageRun[DpoConfig], trainee: Trainee) -> None:
    """Sample groups, score, pair, learn; a round is `optim.steps` steps and has a reference of its own."""
    config, online = run.config, run.config.online
    assert online is not None and config.optim.steps is not None
    steps = config.optim.steps
    done = run.done = 0 if run.resumed is None else run.resumed.step
    if run.resumed is not None:
        load_weights(run.resumed, trainee.model)
    for number in range(done // steps, online.rounds):
        begin = number * steps
        file = run.folder / "preferences" / f"round-{number:03d}.jsonl"
        if not file.is_file():
            played, tools = sample_groups(
                run, online, trainee.model, trainee.tokenizer, trainee.codec, phase="online", step=begin,
                groups=online.groups, size=online.group_size, first=number * online.groups,
            )  # fmt: skip
            paired = pairs_from_groups(
                played,
                choose=online.choose,
                gap=online.gap,
                tools=tools,
                tokenizer=tokenizer_mark(trainee.tokenizer),
            )
            _tell_round(run, paired, begin, number)
            write_preferences(file, paired.preferences)
        if file.stat().st_size == 0:
            run.tell(
                Event("prepare", begin, 0, message=f"round {number + 1} gave no pairs: all groups agree")
            )
            break
        rows = pairs_as_tokens(read_preferences(file), trainee, config, f"round {number + 1}")
        from_start = online.hold_to == "start" and number > 0
        _learn_pairs(run, trainee, rows.kept, [], f"round-{number}", begin=begin, from_start=from_start)
    if not checkpoints(run.folder):  # nothing was learned: the model as it was
        state = {"optimizer": {}, "random": torch.get_rng_state(), "metrics_position": run.log.position}
        save_checkpoint(run.folder, 0, trainee.model, trainee.tokenizer, trainee.chat_template, state, keep=1)


def _learn_pairs(
    run: StageRun[DpoConfig],
    trainee: Trainee,
    learned: list[PairRow],
    held_out: list[PairRow],
    name: str,
    *,
    begin: int,
    from_start: bool = False,
) -> None:
    config = run.config
    reference: list[tuple[float, float]] = []
    if config.dpo.loss not in FREE:
        sides = [side for row in (*learned, *held_out) for side in (row.chosen, row.rejected)]
        flat = _reference(run, trainee, name, sides, from_start=from_start)
        reference = list(zip(flat[::2], flat[1::2], strict=True))
    task = pair_task(learned, held_out, reference, config.dpo)
    fit(run, trainee, task, config.optim, eval_every=config.data.eval_every, begin=begin)


def _reference(
    run: StageRun[DpoConfig],
    trainee: Trainee,
    name: str,
    sides: Sequence[Tokens],
    *,
    from_start: bool = False,
) -> list[float]:
    """Return the reference's log-probability of each side, from the run's folder where it was computed before."""
    path = run.folder / "reference" / f"{name}.json"
    if path.is_file():
        stored: list[float] = json.loads(path.read_text("utf-8"))
        if len(stored) != len(sides):
            raise UserError(
                f"{path} is of {len(stored)} answers, but there are {len(sides)}: the data has changed"
            )
        return stored
    config = run.config
    model = trainee.model
    if config.dpo.reference is not None or from_start:
        start = config.model
        if config.dpo.reference is not None:
            start = start.model_copy(update={"path": config.dpo.reference, "lora": None})
        model, tokenizer = load_model(start, seed=config.seed)
        if tokenizer_mark(tokenizer) != tokenizer_mark(trainee.tokenizer):
            raise UserError(
                f"dpo.reference {config.dpo.reference!r} has another tokenizer than {config.model.path!r}"
            )
    run.tell(Event("prepare", 0, 0, message=f"reference of {len(sides)} answers"))
    found = answer_logps(model, sides)
    write_atomically(path, json.dumps(found))
    return found


def _tell_rows(run: StageRun[DpoConfig], report: str, learned: int, held_out: int, left_out: int) -> None:
    counts = {"rows": learned, "rows_held_out": held_out, "rows_left_out": left_out}
    run.tell(Event("prepare", 0, 0, counts, message=report or f"{learned + held_out} rows"))


def _tell_round(run: StageRun[DpoConfig], paired: Paired, begin: int, number: int) -> None:
    counts = {
        "round": number + 1, "pairs": len(paired.preferences), "groups": paired.groups, "ungraded": paired.ungraded,
        "ties": paired.tied, "identical": paired.identical, "groups_without_pair": paired.silent,
        "left_out": paired.unwritten,
    }  # fmt: skip
    run.tell(
        Event("prepare", begin, 0, counts, message=f"round {number + 1}: {len(paired.preferences)} pairs")
    )
