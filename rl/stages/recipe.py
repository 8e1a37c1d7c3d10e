"""Recipes: stages in a row, each with what the earlier ones made; one folder, with a run folder for every stage.

    RECIPE/recipe.toml       what was asked for
    RECIPE/01-sft/           the run of the first stage, as its own command would make it
    RECIPE/02-pairs/ ...

A stage without `model.path` starts from the newest policy: what the last stage of the kinds sft, dpo or rl made.
"{NAME.model}", "{NAME.pairs}", "{NAME.rows}" and "{NAME.run}" stand for what an earlier stage has made, and its folder.
Everything is resolved and checked before the first stage runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tomli_w
from pydantic import BaseModel, Field, model_validator

from ...tools.errors import UserError, nearest
from ..config import Config, EnvConfig, ModelConfig
from ..config_file import build, parse_value, read_toml, split_overrides
from ..config_types import Count, File, Kwargs, Name, Section
from ..metrics import Watcher
from .stage import MODEL, find_stage, publish, run_stage, stages
from .stage_config import StageConfig

RL = "rl"
"""The stage that is `quintain train`, with its config."""
POLICIES = ("sft", "dpo", RL)
"""Stages whose model the next one starts from, unless it names another."""
RecipeKind = Literal["chain", "rlhf", "rlvr", "dpo", "constitutional"]
NEEDS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "chain": (),
    "rlhf": (("reward-model",), (RL,)),
    "rlvr": ((RL,),),
    "dpo": (("dpo",),),
    "constitutional": (("revise", "feedback"), ("sft", "dpo", "reward-model")),
}
"""The stages that a recipe of a name must have, in this order: of each step one of those named."""
_REFERENCE = re.compile(r"\{([A-Za-z0-9][A-Za-z0-9_-]*)\.([a-z]+)\}")
_STAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class RecipeConfig(Section):
    """Stages in a row."""

    recipe: RecipeKind = "chain"
    """What it is: `rlhf`, `rlvr`, `dpo`, `constitutional`, whose stages are checked, or any `chain`."""
    name: Name = "recipe"
    """The first part of the folder's name; the file's name by default."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Everything random in all stages follows from it; a stage may have its own."""
    threads: Count | None = None
    """Threads of torch; none takes all cores."""
    dir: File = Path("runs")
    """The folder that recipes are made in; one becomes `<name>-seed<seed>-<n>` there."""
    model: ModelConfig = ModelConfig()
    """What the first stage starts from, and where all run; what a stage says itself goes before."""
    stage: Annotated[list[Kwargs], Field(min_length=1)]
    """The stages: `kind`, a `name` (by default the kind), and the sections of the stage's own config."""

    @model_validator(mode="after")
    def _stages_can_be_told_apart(self) -> RecipeConfig:
        known = sorted({*stages(), RL})
        seen: dict[str, int] = {}
        for number, table in enumerate(self.stage, 1):
            kind, name = table.get("kind"), table.get("name", table.get("kind"))
            if kind not in known:
                raise ValueError(
                    f"stage {number} has the kind {kind!r}; "
                    + (
                        nearest(kind, known)
                        if isinstance(kind, str)
                        else f"the choices are: {', '.join(known)}"
                    )
                )
            if not isinstance(name, str) or not _STAGE_NAME.fullmatch(name):
                raise ValueError(
                    f"stage {number} has the name {name!r}; letters, digits, - and _ make a name"
                )
            if _plain(name) in seen:
                raise ValueError(
                    f"stages {seen[_plain(name)]} and {number} have the name {name!r}: "
                    "give one of them another with name = ..."
                )
            if _plain(name) in type(self).model_fields:
                raise ValueError(
                    f"stage {number} cannot have the name {name!r}: the recipe has a key of that name"
                )
            seen[_plain(name)] = number
        self._is_what_it_says()
        return self

    def _is_what_it_says(self) -> None:
        kinds = [str(table["kind"]) for table in self.stage]
        at = 0
        for choices in NEEDS[self.recipe]:
            found = next((n for n in range(at, len(kinds)) if kinds[n] in choices), None)
            if found is None:
                wanted = ", then ".join(" or ".join(each) for each in NEEDS[self.recipe])
                raise ValueError(
                    f"recipe = {self.recipe!r} has the stages {wanted}, got {', '.join(kinds)}; "
                    "add what is missing, or call it recipe = 'chain'"
                )
            at = found + 1

    def to_toml(self) -> str:
        """Return the recipe as TOML, references as they were written."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


@dataclass(frozen=True, slots=True)
class Planned:
    """One stage of a recipe, everything resolved."""

    name: str
    """Unique in the recipe."""
    kind: str
    """Of `stages()`, or `rl`."""
    config: Config | StageConfig
    """Its own config; paths in it may not exist before the earlier stages ran."""
    folder: Path
    """Its run folder."""

    @property
    def makes(self) -> Path:
        """What is there when the stage is through."""
        return self.folder / (MODEL if self.kind == RL else find_stage(self.kind).makes)

    @property
    def done(self) -> bool:
        """Whether the stage is through."""
        return self.makes.exists()


def load_recipe(path: Path, overrides: Sequence[str] = (), *, kind: str | None = None) -> RecipeConfig:
    """Read a recipe; options such as `--sft.optim.steps 3` change the stage of that name, others the recipe.

    `kind` is the recipe that is expected. Raises `UserError` for whatever cannot be understood.
    """
    if kind is not None and kind not in get_args(RecipeKind):
        raise UserError(f"there is no recipe {kind!r}; {nearest(kind, get_args(RecipeKind))}")
    table = read_toml(path)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._") or "recipe"
    if not isinstance(table.get("stage"), list) or not all(isinstance(t, dict) for t in table["stage"]):
        raise UserError(f"{path}: a recipe is a list of stages: [[stage]] with kind = ... each")
    if kind is not None and table.setdefault("recipe", kind) != kind:
        raise UserError(f"{path} is a recipe of the kind {table['recipe']!r}, not {kind!r}")
    own: list[str] = []
    for place, text in split_overrides(overrides):
        stage = _stage_of(place, table["stage"])
        if stage is None:
            own.append(f"--{'.'.join(place)}={text}")
            continue
        at = stage
        for key in place[1:-1]:
            at = at.setdefault(key, {})
            if not isinstance(at, dict):
                raise UserError(f"--{'.'.join(place)} cannot be set: {key} is not a section")
        if text == "none":
            at.pop(place[-1], None)
        else:
            at[place[-1]] = parse_value(text)
    return build(RecipeConfig, {"name": name, **table}, own, source=str(path))


def _stage_of(place: Sequence[str], tables: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the table of the stage that an option names; None for the recipe's own options."""
    if len(place) < 2:
        return None
    for table in tables:
        if _plain(str(table.get("name", table.get("kind")))) == place[0]:
            return table
    return None


def plan(recipe: RecipeConfig, folder: Path, source: str = "recipe") -> list[Planned]:
    """Return the stages with everything resolved as they will run in `folder`.

    Raises `UserError`, with the stage's name, for a reference to what is not there, and whatever a stage's own config
    refuses.
    """
    found: list[Planned] = []
    folder = folder.resolve()
    start = recipe.model.model_dump(mode="json", exclude_unset=True)
    for number, table in enumerate(recipe.stage, 1):
        own = {key: value for key, value in table.items() if key not in ("kind", "name")}
        kind, name = str(table["kind"]), str(table.get("name", table["kind"]))
        at = f"{source}: stage {number} ({name})"
        policy = next((stage.makes for stage in reversed(found) if stage.kind in POLICIES), None)
        model = {**start, **({} if policy is None else {"path": str(policy)})}
        common: dict[str, Any] = {"seed": recipe.seed, "model": model}
        if recipe.threads is not None:
            common["threads"] = recipe.threads
        filled = _filled(own, found, at)
        if isinstance(filled.get("model", {}), Mapping):
            filled["model"] = {**model, **filled.get("model", {})}
        config = build(
            Config if kind == RL else find_stage(kind).config,
            {**common, **filled, "name": name},
            (),
            source=at,
        )
        _check_envs(config, at)
        if isinstance(config, Config) and config.sft is None and config.rl is None:
            raise UserError(f"{at}: nothing to train: add a section [stage.sft], [stage.rl] or both")
        found.append(Planned(name, kind, config, folder / f"{number:02d}-{name}"))
    return found


def _filled(value: Any, earlier: Sequence[Planned], at: str) -> Any:
    """Return a value with its references replaced by paths."""
    if isinstance(value, Mapping):
        return {key: _filled(part, earlier, at) for key, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, earlier, at) for part in value]
    reference = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if reference is None:
        return value
    name, what = reference.groups()
    stage = next((stage for stage in earlier if stage.name == name), None)
    if stage is None:
        raise UserError(f"{at}: {value} names no earlier stage; {nearest(name, [s.name for s in earlier])}")
    if what == "run":
        return str(stage.folder)
    if what != stage.makes.stem:
        raise UserError(
            f"{at}: {value}: the stage {name!r} makes {{{name}.{stage.makes.stem}}}, and has {{{name}.run}}"
        )
    return str(stage.makes)


def _check_envs(config: BaseModel, at: str) -> None:
    from ...envs.registry import list_envs

    known = list_envs()
    for env in _envs(config):
        if env.id not in known:
            raise UserError(f"{at}: there is no environment {env.id!r}; {nearest(env.id, known)}")


def _envs(config: BaseModel) -> Iterator[EnvConfig]:
    for name in type(config).model_fields:
        part = getattr(config, name)
        if isinstance(part, EnvConfig):
            yield part
        elif isinstance(part, BaseModel):
            yield from _envs(part)


def _plain(name: str) -> str:
    return name.replace("-", "_")


def run_planned(stage: Planned, on_event: Watcher = lambda event: None, *, resume: bool = False) -> Path:
    """Run one stage in its folder, which is there with its config, and return what it made.

    A stage that is through is left as it is. Raises what the stage raises.
    """
    if stage.done:
        return stage.makes
    if isinstance(stage.config, StageConfig):
        return run_stage(stage.config, stage.folder, on_event, resume=resume)
    from ..checkpoint import checkpoints
    from ..train import train

    train(stage.config, stage.folder, on_event, resume=resume)
    publish(checkpoints(stage.folder)[-1], stage.makes)
    return stage.makes
