"""The command `quintain`: what it understands, and how it ends when something is wrong.

Every command imports what it needs when it runs, so that `quintain --help` is quick. Mistakes of the person
end in one message and exit code 2; a traceback means a mistake of ours.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__, sandbox_cli

if TYPE_CHECKING:
    from rich.console import Console

    from .rl.config import Config

USAGE = 2
"""The exit code for what the person can put right."""
INTERRUPTED = 130
"""The exit code after Ctrl-C."""
CONFIGURED = {"train", "sft", "dpo", "reward-model", "recipe"}
"""The commands whose options with dots are values of the config."""

app = typer.Typer(
    name="quintain",
    help="Teach language models to solve tasks whose answers can be verified.",
    epilog="First run:  quintain train examples/calculator_agent.toml",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(
    epilog="Any value of the config can be set as an option with dots: --rl.lr 1e-5, --env.kwargs.split test, "
    "--rl.stop_at none. `quintain options` lists them all."
)
def train(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Argument(help="The TOML file that describes the run.")] = None,
    seed: Annotated[int | None, typer.Option(help="Everything random in the run follows from it.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="What samples the rollouts: transformers, vllm or vllm-server.")
    ] = None,
    workers: Annotated[
        str | None, typer.Option(help="Where environments and verifiers run: local or ray.")
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="The folder of this run; by default a new one in `run.dir`. Never overwritten."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and stop.")] = False,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Continue the run in this folder where it stopped.")
    ] = None,
) -> None:
    """Train a model on an environment, as a config file says.

    Writes a run folder with the config, metrics, trajectories, checkpoints and `report.html`. Ctrl-C leaves a
    usable run; --resume continues it.
    """
    from rich.console import Console

    from .rl.config import Config, load_config
    from .run_folder import make_run_dir, resumed_config
    from .tools.errors import UserError

    overrides = list(ctx.obj or ())
    if seed is not None:
        overrides.append(f"--seed={seed}")
    if engine is not None:
        overrides.append(f"--engine.kind={engine}")
    if workers is not None:
        overrides.append(f"--workers.kind={workers}")
    if config is None and resume is None:
        raise UserError("which run? name a config file: quintain train CONFIG.toml, or --resume RUN")
    if resume is not None and run_dir is not None:
        raise UserError(f"--resume {resume} continues in that folder: leave --run-dir {run_dir} out")

    given = load_config(config, overrides) if config is not None else None
    chosen = resumed_config(resume, given, overrides, kind=Config) if resume is not None else given
    assert chosen is not None  # one of the two was given
    if chosen.sft is None and chosen.rl is None:
        raise UserError(f"{config or resume}: nothing to train: add a section [sft], [rl] or both")
    _check_env(chosen)
    if dry_run:
        print(chosen.to_toml(), end="")
        return
    _check_libraries(chosen)
    if _follows():
        from .rl.train import train as train_run

        hush_libraries()
        train_run(chosen, Path(os.devnull))
        return
    folder = resume if resume is not None else make_run_dir(chosen, run_dir)
    _run(chosen, folder, Console(), resume=resume is not None)


def _follows() -> bool:
    """Whether torchrun started this process to share the work of another, which has the run folder and the display."""
    from .rl.ranks import rank_here

    return bool(rank_here())


def _check_env(config: Config) -> None:
    """Refuse an environment that is not there, and name the nearest."""
    from .envs.registry import list_envs
    from .tools.errors import UserError, nearest

    known = list_envs()
    if config.env.id not in known:
        raise UserError(f"env.id: there is no environment {config.env.id!r}; {nearest(config.env.id, known)}")


def _check_libraries(config: Config) -> None:
    """Refuse to begin where a library that the run needs is missing."""
    needs = {"torch": "train", "transformers": "train", "trl": "train"}
    if config.engine.kind == "vllm" or (config.engine.kind == "vllm-server" and config.engine.server.start):
        needs["vllm"] = "vllm"
    if config.workers.kind == "ray":
        needs["ray"] = "ray"
    check_libraries(needs)


def check_libraries(needs: Mapping[str, str]) -> None:
    """Refuse to begin where a library is missing; `needs` says which extra brings each module."""
    from .tools.errors import UserError

    for module, extra in needs.items():
        if importlib.util.find_spec(module) is None:
            raise UserError(f'{module} is not installed: pip install "quintain[{extra}]"')


def _run(config: Config, folder: Path, console: Console, *, resume: bool) -> None:
    from .display import Display, print_summary
    from .rl.train import train as train_run
    from .run_folder import discard_unused, records_of

    hush_libraries()
    title = f"{config.name} · {config.env.id} · seed {config.seed} · {folder}"
    try:
        with Display(title, console, earlier=records_of(folder)) as display:
            train_run(config, folder, display, resume=resume)
    except KeyboardInterrupt:
        write_the_report(folder)
        print(f"\nstopped; resume with: quintain train --resume {folder}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    except Exception:
        if not resume:
            discard_unused(folder)
        if folder.exists():
            write_the_report(folder)
            print(f"what the run has written is in {folder}", file=sys.stderr)
        raise
    write_the_report(folder)
    print_summary(console, folder, records_of(folder))


def hush_libraries() -> None:
    """Keep the progress bars and notices of libraries out of our display."""
    import warnings

    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    if importlib.util.find_spec("datasets") is not None:
        from datasets.utils.logging import disable_progress_bar

        disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|torch)\b")


def write_the_report(folder: Path) -> None:
    """Write the report of a run, and say so where that fails: it is no reason to fail the run."""
    from .report import write_report

    try:
        write_report(folder)
    except OSError as error:
        print(f"the report could not be written: {error}", file=sys.stderr)


StageFile = Annotated[Path | None, typer.Argument(metavar="CONFIG", help="The TOML file of the stage.")]
StageSeed = Annotated[int | None, typer.Option(help="Everything random in the run follows from it.")]
StageDir = Annotated[Path | None, typer.Option(help="The folder of this run; never overwritten.")]
StageDry = Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and stop.")]
StageResume = Annotated[Path | None, typer.Option(metavar="RUN", help="Continue the run in this folder.")]


@app.command(epilog="Example:  quintain sft examples/sft.toml --data.path rows.jsonl")
def sft(
    ctx: typer.Context,
    config: StageFile = None,
    seed: StageSeed = None,
    run_dir: StageDir = None,
    dry_run: StageDry = False,
    resume: StageResume = None,
) -> None:
    """Fine-tune on conversations, trajectories, or what a teacher gets right. Prints the model's folder."""
    from .stage_cli import run

    run("sft", config, ctx.obj or (), seed=seed, run_dir=run_dir, dry_run=dry_run, resume=resume)


@app.command(epilog="Example:  quintain dpo examples/dpo.toml --data.path preferences.jsonl")
def dpo(
    ctx: typer.Context,
    config: StageFile = None,
    seed: StageSeed = None,
    run_dir: StageDir = None,
    dry_run: StageDry = False,
    resume: StageResume = None,
) -> None:
    """Learn from preferences, given or made round by round, without a reward model. Prints the model's folder."""
    from .stage_cli import run

    run("dpo", config, ctx.obj or (), seed=seed, run_dir=run_dir, dry_run=dry_run, resume=resume)


@app.command(epilog="Example:  quintain preferences runs/agent-seed0-1 --out pairs.jsonl")
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
    from .preferences_cli import preferences as look

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


@app.command(
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
    from .annotate import annotate as serve_page

    serve_page(items, labels, annotator or (), seed=seed, port=port, export=export, report=agreement)


@app.command("options")
def list_options(
    command: Annotated[
        str, typer.Argument(help="Of which command: train, or a stage such as sft or dpo.")
    ] = "train",
) -> None:
    """List every value of the config, with its default and what it means."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from .rl.config import Config
    from .rl.config_file import leaves
    from .rl.stages.stage import find_stage

    kind = Config if command == "train" else find_stage(command).config
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("option", "default", "meaning"):
        table.add_column(title, no_wrap=title != "meaning")
    for place, section in leaves(kind):
        field = section.model_fields[place[-1]]
        default = "" if field.is_required() else field.get_default(call_default_factory=True)
        shown = "none" if default is None else str(default).lower() if isinstance(default, bool) else default
        table.add_row(Text(f"--{'.'.join(place)}", "bold"), Text(str(shown)), Text(field.description or ""))
    Console().print(table)


@app.command(epilog="Example:  quintain play quintain/Calculator-v0 --seed 3 split=test")
def play(
    env_id: Annotated[str, typer.Argument(help="The environment; `quintain envs` lists them.")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the environment.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Which episode; a new one each time by default.")] = None,
) -> None:
    """Be the policy yourself: play an episode in the terminal."""
    from .play import play as play_episode

    play_episode(env_id, _env_options(options), seed)


def _env_options(options: Sequence[str] | None) -> dict[str, Any]:
    """Read the options of an environment, `key=value`. Raises `UserError` for one that has no `=`."""
    from .rl.config_file import parse_value
    from .tools.errors import UserError

    kwargs = {}
    for option in options or ():
        key, equals, text = option.partition("=")
        if not equals or not key:
            raise UserError(f"expected an option of the environment such as split=test, got {option!r}")
        kwargs[key] = parse_value(text)
    return kwargs


@app.command(
    epilog="Example:  quintain audit quintain/Countdown-v0 numbers=3 --tasks 50. Exit code: 0 sound, 1 not."
)
def audit(
    env_id: Annotated[
        str | None, typer.Argument(metavar="ENV", help="The environment; `quintain envs` lists them.")
    ] = None,
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the environment.")
    ] = None,
    tasks: Annotated[int, typer.Option(help="Tasks that the oracle has to solve.")] = 20,
    seed: Annotated[int, typer.Option(help="Everything random in the audit follows from it.")] = 0,
    fuzz: Annotated[int, typer.Option(help="Random replies that it has to survive.")] = 200,
    probe: Annotated[list[str] | None, typer.Option(help="Run only this probe; may be repeated.")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="Leave this probe out; may be repeated.")] = None,
    json_to: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write the report as JSON; - for standard output."),
    ] = None,
    transcripts: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the episodes that prove the findings to this folder."),
    ] = None,
    show: Annotated[
        int, typer.Option(min=0, help="Characters of each text of the episodes shown; 0 shows none.")
    ] = 240,
    step_s: Annotated[
        float, typer.Option("--step-seconds", help="Time for one step, then it has failed.")
    ] = 15.0,
    probe_s: Annotated[
        float, typer.Option("--probe-seconds", help="Time for one probe, then it is cut.")
    ] = 300.0,
    probes: Annotated[bool, typer.Option("--probes", help="List the probes and stop.")] = False,
) -> None:
    """Say whether the reward of an environment can be trusted, before anything is trained. Needs no model."""
    from rich.console import Console

    from .audit_cli import list_probes, run
    from .tools.errors import UserError

    if probes:
        list_probes(Console())
        return
    if env_id is None:
        raise UserError("which environment? for example: quintain audit quintain/Countdown-v0")
    code = run(
        env_id,
        _env_options(options),
        only=probe or (),
        skip=skip or (),
        json_to=json_to,
        transcripts=transcripts,
        show=show,
        tasks=tasks,
        seed=seed,
        fuzz=fuzz,
        step_s=step_s,
        probe_s=probe_s,
    )
    raise typer.Exit(code)


@app.command("envs", epilog="Example:  quintain envs quintain/Calculator-v0")
def list_environments(
    env_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Say all about this one.")] = None,
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the environment.")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Only those with this tag, such as math or game.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the environments that can be trained on and played, or describe one."""
    from rich.console import Console

    from .envs_cli import show_list, show_one
    from .tools.errors import UserError

    if env_id is None:
        show_list(Console(), tag, as_json=as_json)
        return
    if tag is not None:
        raise UserError(f"--tag {tag} is for the list: leave it out, or the id {env_id}")
    show_one(Console(), env_id, _env_options(options), as_json=as_json)


@app.command(epilog="Example:  quintain new word-chains --kind game")
def new(
    name: Annotated[
        str, typer.Argument(help="Of the project and its folder: lower case, such as word-chains.")
    ],
    kind: Annotated[str, typer.Option(help="single-turn, tool or game.")] = "single-turn",
    parent: Annotated[
        Path | None, typer.Option("--in", metavar="DIR", help="Where; by default here.")
    ] = None,
) -> None:
    """Make an environment package to start from, with tests, that passes its own audit."""
    from .scaffold import module_of, scaffold

    folder = scaffold(name, kind, parent)
    module = module_of(name)
    print(f"{folder} holds a {kind} environment that works: change it step by step.\n")
    print(f"  cd {folder}")
    print('  pip install -e ".[dev]"')
    print("  pytest")
    print(f"  $EDITOR src/{module}/environment.py")


mcp_app = typer.Typer(
    help="Tools over the Model Context Protocol.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.add_typer(mcp_app, name="mcp")


@mcp_app.callback()
def _mcp() -> None:
    """Tools over the Model Context Protocol."""


@mcp_app.command(epilog="Example:  quintain mcp serve quintain/Calculator-v0 --task 3 split=test")
def serve(
    env_id: Annotated[str, typer.Argument(help="An environment with tools; `quintain envs` lists them.")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the environment.")
    ] = None,
    task: Annotated[int | None, typer.Option(help="Index of the task that the tools work on.")] = None,
    seed: Annotated[int | None, typer.Option(help="Draws the task.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Serve over HTTP at this port instead of stdio.", min=1, max=65535)
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen; whoever reaches it can call.")] = "127.0.0.1",
) -> None:
    """Serve the tools of an environment as an MCP server, in the world of one task."""
    from .mcp_cli import serve as serve_env

    serve_env(env_id, _env_options(options), task, seed, host, port)


@app.command(epilog="Example:  quintain gateway --model runs/my-run/checkpoints/best --port 8000")
def gateway(
    model: Annotated[str, typer.Option(help="A model: a folder, a Hugging Face id or `smollm2`.")],
    port: Annotated[int, typer.Option(help="Where to listen on 127.0.0.1; 0 takes a free one.")] = 0,
    out: Annotated[Path, typer.Option(help="The new file for the trajectories.")] = Path("sessions.jsonl"),
    engine: Annotated[str, typer.Option(help="transformers or vllm.")] = "transformers",
    tool_format: Annotated[str, typer.Option("--format", help="How the model writes tool calls.")] = "hermes",
    max_tokens: Annotated[int, typer.Option(help="Tokens of a reply without a limit of its own.")] = 1024,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    chat_template: Annotated[
        Path | None, typer.Option(help="A Jinja file instead of the model's own.")
    ] = None,
) -> None:
    """Serve a model as an OpenAI-compatible endpoint that records every session, token by token."""
    from .tools.errors import UserError

    if engine not in ("transformers", "vllm"):
        raise UserError(f"--engine must be transformers or vllm, got {engine!r}")
    from .gateway_cli import serve

    serve(
        model,
        port,
        out,
        engine=engine,  # type: ignore[arg-type]
        form=tool_format,
        max_tokens=max_tokens,
        device=device,
        chat_template=chat_template,
    )


@app.command(epilog="Example:  quintain reward-model examples/reward_model.toml --data.path pairs.jsonl")
def reward_model(
    ctx: typer.Context,
    config: StageFile = None,
    seed: StageSeed = None,
    run_dir: StageDir = None,
    dry_run: StageDry = False,
    resume: StageResume = None,
) -> None:
    """Train a model to tell better answers from worse ones. Prints the model's folder."""
    from .stage_cli import run

    run("reward-model", config, ctx.obj or (), seed=seed, run_dir=run_dir, dry_run=dry_run, resume=resume)


@app.command(
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
    from .sample_cli import Rule, Sampled
    from .sample_cli import sample as sample_tasks
    from .tools.errors import UserError

    if engine not in ("transformers", "vllm", "openai"):
        raise UserError(f"--engine must be transformers, vllm or openai, got {engine!r}")
    sample_tasks(
        Sampled(
            env_id,
            _env_options(options),
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


@app.command(epilog="Example:  quintain view runs/calculator_agent-seed1-1")
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
    from .viewer import view as view_runs

    view_runs(runs, port, browse=browse)


@app.command(
    name="eval", epilog="Example:  quintain eval --env quintain/Sokoban-v0 --model runs/a/checkpoints/best"
)
def evaluate(
    suite: Annotated[Path | None, typer.Argument(help="A TOML file: environments, models, how many.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="An environment; may be given again.")] = None,
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

    from .eval_cli import run_eval, suite_of

    named = {"problems": problems, "samples": samples, "temperature": temperature, "seed": seed}
    overrides = [f"--{name}={value}" for name, value in named.items() if value is not None]
    overrides += [f"--{each}" for each in settings or ()]
    given = {
        name: value for name, value in {"engine": engine, "base_url": base_url}.items() if value is not None
    }
    described = suite_of(suite, env or (), model or (), overrides, given)
    hush_libraries()
    raise typer.Exit(run_eval(described, out or Path("evals") / described.name, Console(), verifier))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
) -> None:
    """Build `report.html` again from what a run has written so far."""
    from .report import write_report

    print(write_report(run))


@app.command(epilog="Example:  quintain export runs/calculator_agent-seed1-1 my-model")
def export(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    target: Annotated[Path, typer.Argument(help="The folder to write; never overwritten.")],
    checkpoint: Annotated[str, typer.Option(help="best, last, or an RL step.")] = "best",
) -> None:
    """Write a checkpoint as a plain Hugging Face folder with a model card."""
    from .export import export as export_run

    print(export_run(run, target, checkpoint))


@app.command()
def version() -> None:
    """Print the version."""
    print(f"quintain {__version__}")


app.add_typer(sandbox_cli.app, name="sandbox")


@app.command()
def doctor() -> None:
    """Say what this machine can do: training, engines, sandboxes; what is missing, and what to install for it.

    The exit code is 1 where no sandbox works: programs of a model cannot be run safely there.
    """
    from .doctor import examine

    raise typer.Exit(0 if examine(print) else 1)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def verify(ctx: typer.Context) -> None:
    """Score a file of replies with a verifier, and show where it differs from others."""
    from .verify_cli import verify as verify_file  # takes its own options; it loads every verifier

    room = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    room.command()(verify_file)
    room(args=ctx.args, prog_name="quintain verify")


@app.command(epilog="Example:  quintain rescore runs/agent-seed0-1 --verifier math")
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
    from .rescore_cli import rescore_run

    raise typer.Exit(rescore_run(run, verifier, kind, out, show, at_once))


@app.command(epilog="Example:  quintain replay runs/agent-seed0-1 rl-12-3-0. Exit code: 0 the same, 1 not.")
def replay(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    trajectory: Annotated[str, typer.Argument(metavar="ID", help="The id of one of its trajectories.")],
    file: Annotated[
        str | None, typer.Option(help="The file it is in, where several have one of that id.")
    ] = None,
) -> None:
    """Play a stored episode again with its replies, and compare what the environment says and pays."""
    from .rescore_cli import replay_one

    raise typer.Exit(replay_one(run, trajectory, file))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; never raises for a mistake of the person."""
    try:
        rest, overrides = take_overrides(list(sys.argv[1:] if arguments is None else arguments))
        app(args=rest, prog_name="quintain", obj=overrides)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        message = _told(error)
        if message is None or os.environ.get("QUINTAIN_TRACEBACK"):
            raise
        print(f"error: {message}", file=sys.stderr)
        return USAGE
    return 0


def take_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate `--dotted.options value` of `train` and the stages (and `--name`, `--sft` ...) from the rest."""
    if not arguments or arguments[0] not in CONFIGURED:
        return list(arguments), []
    rest: list[str] = []
    overrides: list[str] = []
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        name, equals, _ = word.partition("=")
        if not name.startswith("--") or not ("." in name or name in ("--name", "--threads", "--sft", "--rl")):
            rest.append(word)
            continue
        overrides.append(word)
        if not equals and waiting:
            overrides.append(waiting.pop(0))
    return rest, overrides


def _stops() -> tuple[type[Exception], ...]:
    """Return the errors by which a run says that it must not go on; none where no run was begun."""
    kinds = {"rollout": "UngradedError", "learner": "NonFiniteError", "selfcheck": "SelfCheckError"}
    rooms = {name: sys.modules.get(f"{__package__}.rl.{name}") for name in kinds}
    found = (getattr(room, kinds[name], None) for name, room in rooms.items())
    return tuple(kind for kind in found if kind is not None)


def _told(error: Exception) -> str | None:
    """Return the one message for what the person can put right; None for a mistake of ours."""
    from .tools.errors import UserError

    if isinstance(error, UserError) or type(error) in _stops():
        return str(error)
    if not isinstance(error, OSError):
        return None
    place = f": {error.filename}" if error.filename else ""
    known = {
        errno.ENOSPC: f"the disk is full{place}; free some space, then continue with --resume",
        errno.EDQUOT: f"the disk quota is used up{place}; free some space, then continue with --resume",
        errno.EROFS: f"the file system is read-only{place}; choose another folder with --run.dir",
        errno.EACCES: f"not allowed{place}; check the permissions",
        errno.ENOENT: f"there is no such file or folder{place}",
        errno.ENOTDIR: f"not a folder{place}",
        errno.EISDIR: f"a folder, not a file{place}",
    }
    return known.get(error.errno or 0)
