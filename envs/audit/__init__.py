"""The audit: whether the reward of an environment can be trusted, told without a model before anything is trained.

from quintain.envs.audit import audit

report = audit("quintain/Countdown-v0")
assert report.sound, report.troubles
"""

from .findings import Finding, Outcome, Report, Severity
from .played import Played, Start, Step
from .probe import Probe, cannot_tell, weighed
from .run import all_probes, audit, built_in
from .subject import OutOfTime, Settings, Subject

__all__ = [
    "audit",
    "Report",
    "Outcome",
    "Finding",
    "Severity",
    "Probe",
    "Subject",
    "Settings",
    "Start",
    "Played",
    "Step",
    "OutOfTime",
    "built_in",
    "all_probes",
    "cannot_tell",
    "weighed",
]
