"""The section of the config that says where environments are played."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .config_types import Count, Positive, Section


class WorkersConfig(Section):
    """Where environments, their sandboxes and their verifiers run; the engine stays where it is."""

    kind: Literal["local", "ray"] = "local"
    """`local` (in this process) or `ray` (in actors of a Ray cluster; needs quintain[ray])."""
    address: str | None = None
    """A machine of the cluster such as `10.0.0.5:6379`, or `auto` for the one that this machine belongs to; none takes
    that of the variable RAY_ADDRESS, else starts Ray on this machine and ends it with the run."""
    count: Count | None = None
    """How many workers; none takes as many as the cluster has room for at the start."""
    cpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """What each takes of Ray's logical CPUs; shares such as 0.5 are fine."""
    resources: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    """What else each takes of what the machines were said to have, for example { sandbox = 1.0 }."""
    start_s: Positive = 120.0
    """Seconds for the workers to start, and for one to come back when all are gone."""

    @model_validator(mode="after")
    def _can_be_had(self) -> WorkersConfig:
        if self.address is not None and "://" in self.address:
            raise ValueError(
                f"workers.address is the address of a machine of the cluster, host:port, got {self.address!r}; "
                "Ray Client (ray://) is not supported: start the run on a machine that belongs to the cluster"
            )
        if self.cpus == 0 and self.count is None:
            raise ValueError("workers.cpus = 0 needs workers.count: there is room for any number of them")
        return self
