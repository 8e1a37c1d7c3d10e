"""What samples the rollouts: the `[engine]` section of a config and those inside it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .config_types import Count, CountOrNone, File, Positive, Section


class VllmConfig(Section):
    """Options of the vLLM engine."""

    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.4
    """The fraction of the GPU's memory for rollouts; the learner needs the rest."""
    max_model_len: Count | None = None
    """The longest sequence in tokens; none takes the model's own."""
    enforce_eager: bool = True
    """Skip the compilation at start-up (minutes) for slower decoding."""
    kv_cache_gb: Annotated[float, Field(gt=0)] = 1.0
    """The size of the key-value cache on a CPU, in GiB."""
    sleep: bool = False
    """Free the GPU's memory while the learner works, once a step: weights move to the host's memory, the cache goes.
    For a GPU that both share; the CPU build cannot."""
    step_s: Positive = 600.0
    """Seconds that one step of the engine may take, the first with its compilation included; then it has failed."""


class ServerConfig(Section):
    """`vllm serve` processes that sample, here or on other machines."""

    urls: list[Annotated[str, Field(pattern=r"^https?://[^/]+/?$")]] = Field(default_factory=list)
    """Addresses of running servers, such as `http://10.0.0.5:8000`."""
    start: CountOrNone = 0
    """Servers to start on this machine beside those, with the options of `engine.vllm`; they end with the run."""
    gpus: list[CountOrNone] = Field(default_factory=list)
    """The GPU of each started server; none leaves that to CUDA_VISIBLE_DEVICES."""
    api_key_env: Annotated[str, Field(min_length=1)] = "VLLM_API_KEY"
    """The environment variable that holds the servers' key; none is sent where it is not set."""
    weights: Literal["file", "nccl", "ipc"] = "file"
    """How new weights reach them: a file in memory or in a folder that all see, NCCL (GPUs), or CUDA IPC (the
    learner's own GPU)."""
    weights_dir: File | None = None
    """With `file`: a folder under the same path here and on the servers; none is shared memory, for this machine."""
    address: str = "127.0.0.1"
    """With `nccl`: this machine's address as the servers see it."""
    restarts: CountOrNone = 3
    """How often each started server that has ended is started again in a run; after that it stays away."""
    start_s: Positive = 600.0
    """Seconds until all of them must be ready, and one that is started again."""
    timeout_s: Positive = 600.0
    """Seconds for one completion on one server, its wait in the server's queue included."""
    load_s: Positive = 300.0
    """Seconds to hand new weights to a server."""
    health_s: Positive = 5.0
    """Seconds between two looks at every server."""
    wait_s: Positive = 120.0
    """Seconds that a request waits where no server is ready."""
    attempts: Count = 4
    """Tries of one request, each on another server where there is one."""

    @model_validator(mode="after")
    def _a_gpu_for_each(self) -> ServerConfig:
        if self.gpus and len(self.gpus) != self.start:
            raise ValueError(f"gpus names {len(self.gpus)} GPUs for start = {self.start} servers")
        return self


class OpenAIConfig(Section):
    """An OpenAI-style server, for evaluation and data: its weights are not ours to train."""

    base_url: Annotated[str, Field(pattern=r"^https?://")] = "http://127.0.0.1:8000/v1"
    """Where it is, up to and with `/v1`."""
    model: str = ""
    """The model's name there."""
    api_key_env: Annotated[str, Field(min_length=1)] = "OPENAI_API_KEY"
    """The environment variable that holds the key; none is sent where it is not set."""
    timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 120.0
    """Seconds for one attempt."""
    max_retries: CountOrNone = 2
    """Further attempts after a failure that may pass."""
    concurrency: Count = 64
    """Requests in flight at the same time."""
    context: Count = 131_072
    """The most tokens (prompt and completion) that the server takes."""
    logprobs: Literal["raw", "processed"] = "raw"
    """What its log-probabilities are of: vLLM's `--logprobs-mode raw_logprobs` (before the temperature) or
    `processed_logprobs` (what was sampled from)."""


class EngineConfig(Section):
    """What samples the rollouts."""

    kind: Literal["transformers", "vllm", "vllm-server", "openai"] = "transformers"
    """`transformers` (embedded, everywhere), `vllm` (fast on GPUs; needs quintain[vllm]), `vllm-server` (vLLM in
    processes of its own, one or many) or `openai` (any server, for evaluation and data)."""
    max_sessions: Count = 256
    """Episodes whose key-value caches are kept at the same time."""
    vllm: VllmConfig = VllmConfig()
    """Used with kind = "vllm", and for servers that are started."""
    server: ServerConfig = ServerConfig()
    """Used with kind = "vllm-server"."""
    openai: OpenAIConfig = OpenAIConfig()
    """Used with kind = "openai"."""

    @model_validator(mode="after")
    def _a_server_has_a_model(self) -> EngineConfig:
        if self.kind == "openai" and not self.openai.model:
            raise ValueError(
                "engine.kind = 'openai' needs engine.openai.model, the model's name on the server"
            )
        if self.kind == "vllm-server" and not self.server.urls and not self.server.start:
            raise ValueError(
                "engine.kind = 'vllm-server' needs engine.server.urls, the servers' addresses, or engine.server.start"
            )
        return self
