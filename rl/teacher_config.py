"""The `[rl.teacher]` section: another model that says, token by token, what it makes of the student's own episodes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .config_types import Device, Fraction, NotNegative, Positive, Section


class TeacherConfig(Section):
    """On-policy distillation: the student plays, a teacher of the same tokens scores what it wrote."""

    path: Annotated[str, Field(min_length=1)]
    """The teacher: a folder, a Hugging Face id, or `smollm2`; it must know the student's tokens."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The type of its weights."""
    device: Device | None = None
    """Where it is kept; none is where the student learns."""
    over: Literal["vocabulary", "sampled"] = "vocabulary"
    """`vocabulary`: the divergence of the whole distributions is in the loss; `sampled`: the teacher's log-probability
    of each sampled token less the student's is added to its advantage, the reverse KL by one sample."""
    beta: Fraction = 1.0
    """With over = "vocabulary": 1 is the reverse KL, 0 the forward KL, between them the Jensen-Shannon divergence."""
    coef: Positive = 1.0
    """The weight of the divergence from the teacher, a token."""
    reward_coef: NotNegative = 1.0
    """The weight of the advantages that the reward makes; 0 learns from the teacher alone."""

    @model_validator(mode="after")
    def _sampled_tokens_say_the_reverse_kl(self) -> TeacherConfig:
        if self.over == "sampled" and self.beta != 1:
            raise ValueError(
                "sampled tokens say the reverse KL alone (teacher.beta = 1): use teacher.over = "
                f'"vocabulary" with teacher.beta = {self.beta:g}'
            )
        return self
