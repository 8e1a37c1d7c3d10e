"""What a run is made of before it begins: environments, model, tokenizer, engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..envs import registry
from ..envs.base import TextEnv
from ..tools.chat import Message
from ..tools.errors import UserError
from .chat import ChatCodec
from .config import Config
from .engines import make_engine
from .engines.base import Engine
from .engines.scripted import Demonstrator
from .learner import Learner
from .metrics import Event, MetricsLog, Watcher
from .models import TINY, load_model, read_template
from .ranks import Launch, Ranks
from .ray_workers import RayWorkers, define
from .rewarded import reward_of
from .rl_config import RlConfig
from .seeds import derive, generator
from .stage import Stage
from .teacher import Teacher, load_teacher

CORPUS_EPISODES = 400
"""Demonstrations whose text the embedded model's tokenizer is trained on."""
TEMPLATE_WORDS = '{"name": "f", "arguments": {}}\n<|im_start|>system\ntool f(x)\nuser\nassistant\ntool\n'
"""What the embedded model's chat template writes itself."""


@dataclass(slots=True)
class Run:
    """What the stages of a run share."""

    config: Config
    folder: Path
    log: MetricsLog
    tell: Watcher
    env: TextEnv
    held_out: TextEnv
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    codec: ChatCodec
    engine: Engine
    teacher: Teacher | None = None
    """What scores the student's tokens; None without `rl.teacher`."""
    workers: RayWorkers | None = None
    """Where the environments are played; None for here."""
    launch: Launch | None = None
    """What torchrun said; None for a process of its own."""
    save_shards: Callable[[Path], None] | None = None
    """Has all ranks write their part of a checkpoint into its folder; None where the learner is in one process."""

    def stage(self, env: TextEnv, step: int | None = None) -> Callable[[], Stage] | None:
        """Return what makes the place that an episode in `env` (`env` or `held_out`) is played in; None for here.

        `step` is the RL step that schedules in its reward stand at.
        """
        if self.workers is None:
            return None
        return self.workers.stage("held out" if env is self.held_out else "trained on", step)


def prepare(config: Config, folder: Path, log: MetricsLog, tell: Watcher) -> Run:
    """Make what the config names. Raises `UserError` for what cannot be had."""
    env = registry.make(config.env.id, **config.env.kwargs)
    if config.env.verifier is not None:
        env.verifier = reward_of(env, config.env.verifier)
    held_out = registry.make(config.env.id, **config.env.held_out_kwargs)
    if config.rl is None and config.sft is None:
        raise UserError("the config has neither an [sft] nor an [rl] section, so there is nothing to train")
    tell(Event("prepare", 0, 0, message=f"model {config.model.path}"))
    model, tokenizer = load_policy(config, env)
    codec = ChatCodec(tokenizer, read_template(config.model))
    context = int(model.config.get_text_config().max_position_embeddings)
    if config.rollout.episode_tokens > context:
        raise UserError(
            f"rollout.episode_tokens is {config.rollout.episode_tokens}, but the model sees {context} tokens at most"
        )
    if config.rl is not None and config.rl.teacher is not None:
        tell(Event("prepare", 0, 0, message=f"teacher {config.rl.teacher.path}"))
    teacher = teacher_of(config, model, tokenizer)
    tell(Event("prepare", 0, 0, message=f"engine {config.engine.kind}"))
    engine = make_engine(config.engine, model, tokenizer, seed=config.seed)
    return Run(config, folder, log, tell, env, held_out, model, tokenizer, codec, engine, teacher)


async def open_workers(config: Config) -> RayWorkers | None:
    """Return the workers that the config asks for; None where environments are played here. Raises `UserError`."""
    if config.workers.kind == "local":
        return None
    env = config.env
    definitions = {
        "trained on": define(env.id, env.kwargs, reward=env.verifier),
        "held out": define(env.id, env.held_out_kwargs),
    }
    workers = RayWorkers(config.workers, definitions, at_once=config.rollout.concurrency)
    await workers.open()
    return workers


def teacher_of(config: Config, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Teacher | None:
    """Return the teacher of a run's student; None where it has none. Raises `UserError` for one that does not fit."""
    if config.rl is None or config.rl.teacher is None:
        return None
    return load_teacher(config.rl.teacher, model, tokenizer, longest=config.rollout.episode_tokens)


def make_learner(
    config: Config,
    rl: RlConfig,
    model: PreTrainedModel,
    ranks: Ranks | None = None,
    *,
    teacher: Teacher | None = None,
) -> Learner:
    """Return the learner of a run, its minibatches drawn from the run's seed."""
    return Learner(
        model,
        rl,
        temperature=config.rollout.temperature,
        generator=generator(config.seed, "minibatches"),
        longest=config.rollout.episode_tokens,
        ranks=ranks,
        teacher=teacher,
    )


def load_policy(config: Config, env: TextEnv) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the model that is trained and its tokenizer; the embedded ones learn their words from `env`."""
    return load_model(
        config.model,
        seed=config.seed,
        texts=demonstration_texts(env, config.seed) if config.model.path == TINY else (),
    )


def demonstration_texts(env: TextEnv, seed: int) -> Iterator[str]:
    """Yield the text that the embedded model's tokenizer learns from: everything said in demonstrations."""
    write = demonstrator(env)
    yield TEMPLATE_WORDS
    for number in range(CORPUS_EPISODES):
        episode, rng = env.fresh(), generator(seed, "corpus", number)
        _, info = episode.reset(seed=derive(seed, "corpus", number) % 2**32)
        said: list[Message] = list(info["messages"])
        over = False
        while not over:
            yield from (message["content"] for message in said)
            assert episode.task is not None
            reply = write(episode.task, episode.messages, rng)
            yield reply
            _, _, terminated, truncated, info = episode.step(reply)
            said, over = info["messages"], terminated or truncated


def demonstrator(env: TextEnv) -> Demonstrator:
    """Return the policy that writes demonstrations. Raises `UserError` if the environment has none."""
    write = env.demonstrator or env.oracle
    if write is None:
        raise UserError(
            f"{type(env).__name__} has no demonstrator, which sft.demonstrations = 'demonstrator' and the embedded "
            "model need: name a JSONL file of demonstrations, or train a model that can speak already"
        )
    return write
