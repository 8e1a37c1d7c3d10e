"""What came of models: `quintain view`, `report`, `export`, `sample`, `eval`, `verify`, `rescore`, `replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .shared import env_options, hush_libraries

commands = typer.Typer()
PANEL = "Look, evaluate, grade"
"""Where `quintain --help` shows them."""


@commands.command(
    epilog="Example:  quintain sample quintain/Calculator-v0 split=test --model my-model --out picked"
)
def sample(
    env_id: Annotated[
        str, typer.Argument(metavar="ENV", help="The environment; `quintain envs` lists them.")
    ],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the environment.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="A folder, a Hugging Face id, `smollm2`, or a model's name on a server.")
    ] = "smollm2",
    out: Annotated[Path, typer.Option(help="The folder to write; the same command goes on in it.")] = Path(
        "samples"
    ),
    method: Annotated[
        str, typer.Option(help="best_of, majority, weighted or rejection: how to choose.")
    ] = "best_of",
    n: Annotated[int, typer.Option("--n", min=1, help="Episodes of each task.")] = 8,
    tasks: Annotated[int, typer.Option(min=1, help="How many tasks.")] = 50,
    verifier: Annotated[
        str | None,
        typer.Option(
            "--verifier", "-v", help="Scores the samples: an id, a JSON spec or a file; else the environment."
        ),
    ] = None,
    answers: Annotated[
        str, typer.Option(help="For votes: what is counted as an answer: number, math or text.")
    ] = "number",
    threshold: Annotated[float, typer.Option(help="For rejection: the least score.")] = 1.0,
    keep: Annotated[int | None, typer.Option(min=1, help="For rejection: the most of one task.")] = None,
    engine: Annotated[str, typer.Option(help="transformers, vllm or openai.")] = "transformers",
    base_url: Annotated[str, typer.Option(help="With openai: the server, up to and with /v1.")] = "",
    temperature: Annotated[float, typer.Option(help="Divides the logits.")] = 1.0,
    turn_tokens: Annotated[int, typer.Option(min=1, help="The most tokens of one reply.")] = 512,
    episode_tokens: Annotated[int, typer.Option(min=1, help="The most tokens of one episode.")] = 2048,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Sample several episodes of each task and choose: best of n, majority, weighted vote, rejection sampling."""
    from ..sample_cli import Rule, Sampled
    from ..sample_cli import sample as sample_tasks
    from ..tools.errors import UserError

    if engine not in ("transformers", "vllm", "openai"):
        raise UserError(f"--engine must be transformers, vllm or openai, got {engine!r}")
    sample_tasks(
        Sampled(
            env_id,
            env_options(options),
            model,
            engine=engine,  # type: ignore[arg-type]
            base_url=base_url,
            tasks=tasks,
            n=n,
            seed=seed,
            temperature=temperature,
            turn_tokens=turn_tokens,
            episode_tokens=episode_tokens,
            device=device,
        ),
        Rule(method, verifier, answers, threshold, keep),  # type: ignore[arg-type]
        out,
    )


@commands.command(epilog="Example:  quintain view runs/calculator_agent-seed1-1")
def view(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, or one that holds runs.")
    ],
    port: Annotated[
        int | None,
        typer.Option(help="Where to listen on 127.0.0.1; by default the next free one.", min=0, max=65535),
    ] = None,
    browse: Annotated[bool, typer.Option("--open", help="Open a browser.")] = False,
) -> None:
    """Look at runs in a browser, while they train or after: curves, every episode, what changed."""
    from ..viewer import view as view_runs

    view_runs(runs, port, browse=browse)


@commands.command(
    name="eval",
    epilog='Example:  quintain eval --env "quintain/Sokoban-v0 split=test" --model runs/a/checkpoints/step-000060',
)
def evaluate(
    suite: Annotated[Path | None, typer.Argument(help="A TOML file: environments, models, how many.")] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(help='An environment with its options, "ID split=test"; may be repeated.'),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A folder, an id, `smollm2`, a name on a server; may be given again."),
    ] = None,
    engine: Annotated[str | None, typer.Option(help="transformers, vllm or openai, for --model.")] = None,
    base_url: Annotated[str | None, typer.Option(help="With openai: the server, up to and with /v1.")] = None,
    problems: Annotated[int | None, typer.Option(help="Problems of each environment.")] = None,
    samples: Annotated[int | None, typer.Option(help="Episodes of each problem.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed asks the same problems.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any other value of the suite: turn_tokens=1024.")
    ] = None,
    verifier: Annotated[
        str | None,
        typer.Option("--verifier", "-v", help="Judge the episodes of --out again, without sampling."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The results folder; the same command goes on in it. Default evals/NAME."),
    ] = None,
) -> None:
    """Evaluate models on environments: success, pass@k, pass^k, majority, intervals, and paired comparisons.

    The first model is what the others are compared with. Exit code 1 means that too much could not be graded.
    """
    from rich.console import Console

    from ..eval_cli import run_eval, suite_of

    named = {"problems": problems, "samples": samples, "temperature": temperature, "seed": seed}
    overrides = [f"--{name}={value}" for name, value in named.items() if value is not None]
    overrides += [f"--{each}" for each in settings or ()]
    given = {
        name: value for name, value in {"engine": engine, "base_url": base_url}.items() if value is not None
    }
    described = suite_of(suite, env or (), model or (), overrides, given)
    hush_libraries()
    raise typer.Exit(run_eval(described, out or Path("evals") / described.name, Console(), verifier))


@commands.command()
def report(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
) -> None:
    """Build `report.html` again from what a run has written so far."""
    from ..report import write_report

    print(write_report(run))


@commands.command(epilog="Example:  quintain export runs/calculator_agent-seed1-1 my-model")
def export(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    target: Annotated[Path, typer.Argument(help="The folder to write; never overwritten.")],
    checkpoint: Annotated[str, typer.Option(help="best, last, or an RL step.")] = "best",
) -> None:
    """Write a checkpoint as a plain Hugging Face folder with a model card."""
    from ..export import export as export_run

    print(export_run(run, target, checkpoint))


@commands.command(epilog="Example:  quintain rescore runs/agent-seed0-1 --verifier math")
def rescore(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    verifier: Annotated[
        str | None,
        typer.Option(
            "--verifier", "-v", help="An id, a JSON spec, or a file with one; else the environment's."
        ),
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Only these: rl, eval or sft.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The JSONL file to write; by default one in RUN/rescored.")
    ] = None,
    show: Annotated[int, typer.Option(min=0, help="How many changed verdicts to show.")] = 20,
    at_once: Annotated[int, typer.Option(min=1, help="Episodes judged at the same time.")] = 64,
) -> None:
    """Grade the stored trajectories of a run again, and show what changes. The run stays as it is."""
    from ..rescore_cli import rescore_run

    raise typer.Exit(rescore_run(run, verifier, kind, out, show, at_once))


@commands.command(
    epilog="Example:  quintain replay runs/agent-seed0-1 rl-12-3-0. Exit code: 0 the same, 1 not."
)
def replay(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    trajectory: Annotated[str, typer.Argument(metavar="ID", help="The id of one of its trajectories.")],
    file: Annotated[
        str | None, typer.Option(help="The file it is in, where several have one of that id.")
    ] = None,
) -> None:
    """Play a stored episode again with its replies, and compare what the environment says and pays."""
    from ..rescore_cli import replay_one

    raise typer.Exit(replay_one(run, trajectory, file))


@commands.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def verify(ctx: typer.Context) -> None:
    """Score a file of replies with a verifier, and show where it differs from others."""
    from ..verify_cli import verify as verify_file  # takes its own options; it loads every verifier

    room = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    room.command()(verify_file)
    room(args=ctx.args, prog_name="quintain verify")
