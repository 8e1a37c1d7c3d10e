"""The stages of post-training: `quintain sft`, `dpo`, `reward-model` ..., their data, and recipes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

commands = typer.Typer()
PANEL = "The rest of post-training"
"""Where `quintain --help` shows them."""

StageFile = Annotated[Path | None, typer.Argument(metavar="CONFIG", help="The TOML file of the stage.")]
StageSeed = Annotated[int | None, typer.Option(help="Everything random in the run follows from it.")]
StageDir = Annotated[Path | None, typer.Option(help="The folder of this run; never overwritten.")]
StageDry = Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and stop.")]
StageResume = Annotated[Path | None, typer.Option(metavar="RUN", help="Continue the run in this folder.")]


STAGES = {
    "sft": (
        "Fine-tune on conversations, trajectories, or what a teacher gets right. Prints the model's folder.",
        "quintain sft examples/sft.toml --data.path rows.jsonl",
    ),
    "dpo": (
        "Learn from preferences, given or made round by round, without a reward model. Prints the model's folder.",
        "quintain dpo examples/dpo.toml --data.path preferences.jsonl",
    ),
    "reward-model": (
        "Train a model to tell better answers from worse ones. Prints the model's folder.",
        "quintain reward-model examples/reward_model.toml --data.path pairs.jsonl",
    ),
    "pairs": (
        "Let a model play groups of episodes and pair them by their scores. Prints the file of preferences.",
        "quintain pairs pairs.toml --model.path my-model",
    ),
    "revise": (
        "Let answers be criticised and revised by a constitution. Prints the file of rows for SFT.",
        "quintain revise revise.toml --constitution constitution.toml",
    ),
    "feedback": (
        "Let a judge compare answers by a constitution. Prints the file of preferences.",
        "quintain feedback feedback.toml --constitution constitution.toml",
    ),
}
"""The commands that run one stage: what each does, and an example."""


def _stage(name: str, what: str, example: str) -> None:
    """Make the command of a stage; all take the same options."""

    def command(
        ctx: typer.Context,
        config: StageFile = None,
        seed: StageSeed = None,
        run_dir: StageDir = None,
        dry_run: StageDry = False,
        resume: StageResume = None,
    ) -> None:
        from ..stage_cli import run

        run(name, config, ctx.obj or (), seed=seed, run_dir=run_dir, dry_run=dry_run, resume=resume)

    commands.command(name, help=what, epilog=f"Example:  {example}")(command)


for _name, (_what, _example) in STAGES.items():
    _stage(_name, _what, _example)


@commands.command(epilog="Example:  quintain preferences runs/agent-seed0-1 --out pairs.jsonl")
def preferences(
    source: Annotated[Path, typer.Argument(help="A JSONL file of preferences, or the folder of a run.")],
    out: Annotated[Path | None, typer.Option(help="The JSONL file to write; never overwritten.")] = None,
    kind: Annotated[str, typer.Option(help="Of a run: which trajectories, rl or eval.")] = "rl",
    choose: Annotated[str, typer.Option(help="Of a run: best_worst, all or best_rest.")] = "best_worst",
    gap: Annotated[
        float, typer.Option(help="Of a run: scores that differ by no more are ties.", min=0)
    ] = 0.0,
    dedupe: Annotated[bool, typer.Option("--dedupe", help="Write repeated rows once.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows out and count them.")] = False,
    form: Annotated[
        str, typer.Option(help="Write for TRL and the Hub: explicit, implicit, plain or unpaired.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what preferences are like (repeated, contradicting, length), and write them; or make them of a run."""
    from ..preferences_cli import preferences as look

    look(
        source,
        out,
        kind=kind,
        choose=choose,
        gap=gap,
        dedupe=dedupe,
        skip_bad=skip_bad,
        form=form,
        as_json=as_json,
    )


@commands.command(
    epilog="Example:  quintain annotate pairs.jsonl --labels labels.jsonl --annotator ann --annotator bo"
)
def annotate(
    items: Annotated[Path, typer.Argument(help="A JSONL file of pairs of answers.")],
    labels: Annotated[Path, typer.Option(help="Where labels go; it only grows.")] = Path("labels.jsonl"),
    annotator: Annotated[list[str] | None, typer.Option(help="Who labels; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(help="Draws the order and the sides.")] = 0,
    port: Annotated[int, typer.Option(help="Where to listen on 127.0.0.1; 0 takes a free one.")] = 0,
    export: Annotated[Path | None, typer.Option(help="Write what was said as preferences, and stop.")] = None,
    agreement: Annotated[
        bool, typer.Option("--agreement", help="Say how far people agree, and stop.")
    ] = False,
) -> None:
    """Serve a local page on which people compare two answers, blind and by the keyboard."""
    from ..annotate import annotate as serve_page

    serve_page(items, labels, annotator or (), seed=seed, port=port, export=export, report=agreement)


@commands.command(
    epilog="Example:  quintain recipe rlhf examples/recipes/rlhf.toml --model.path smollm2 --rl.rl.steps 20"
)
def recipe(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KIND] FILE", help="rlhf, rlvr, dpo or constitutional; the TOML file."),
    ] = None,
    seed: StageSeed = None,
    run_dir: Annotated[Path | None, typer.Option(help="The recipe's folder; never overwritten.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved config of each stage and stop.")
    ] = False,
    resume: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Go on with the recipe in this folder.")
    ] = None,
) -> None:
    """Run stages in a row, each with what the earlier ones made. What is through is not done again."""
    from ..recipe_cli import run

    run(words or (), ctx.obj or (), seed=seed, run_dir=run_dir, dry_run=dry_run, resume=resume)
