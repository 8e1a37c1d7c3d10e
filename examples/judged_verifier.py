"""A verifier of your own together with a judge: a summary must be short and, by a judge's word, faithful.

python examples/judged_verifier.py                              # with a scripted judge; seconds
python examples/judged_verifier.py http://localhost:8000/v1 my-model    # any OpenAI-style server

The rule comes first and costs nothing; the judge is asked only where the rule is kept. If the judge fails, the episode
is ungraded: no wrong answer, and no part of any statistic.
"""

import re
import sys

from quintain import Score, SingleTurnEnv, Task, verifier
from quintain.tools import InfrastructureError
from quintain.verifiers import Endpoint, Gate, Judge

TEXT = "The ferry left Bari at nine with forty people aboard and reached Patras a day later, after a storm."

RUBRIC = (
    "Does the summary say only what the text says? Level 0: it invents. Level 2: every word is borne out."
)


@verifier
def short(reply, task):
    """At most ten words."""
    words = len(reply.split())
    return Score(float(0 < words <= 10), reason=f"{words} words, at most 10")


class ScriptedJudge:
    """Stands in for a model: looks for names that are not in the text, and gives the verdict as it is asked to."""

    async def complete(self, messages):
        mark = re.search(r"VERDICT (\w+)", messages[0]["content"])[1]
        summary = re.search(r"<submission-\w+>\n(.*?)\n<", messages[1]["content"], re.DOTALL)[1]
        if "broken" in summary:
            raise InfrastructureError("server", "it does not answer")
        invented = [word for word in re.findall(r"\b[A-Z]\w+", summary) if word not in TEXT]
        return f"Invented: {invented}\nVERDICT {mark}: {0 if invented else 2}"


def environment(judge):
    tasks = [Task("ferry", f"Summarise in at most ten words:\n\n{TEXT}")]
    return SingleTurnEnv(tasks, Gate(short, Judge(judge, kind="rubric", rubric=RUBRIC, levels=2)))


def main(url=None, model=None):
    env = environment(ScriptedJudge() if url is None else Endpoint(url, model))
    for reply in (
        "A ferry from Bari reached Patras after a storm.",
        "A ferry from Naples reached Patras after a storm.",
        "The ferry that left Bari at nine reached Patras one whole day later.",
        "The ferry was broken.",
    ):
        env.reset(seed=0)
        _, reward, _, _, info = env.step(reply)
        why = info["score"].reason.splitlines()[0]
        print(f"{reward:.1f} {info['score'].status:8} {reply}\n             {why}")


if __name__ == "__main__":
    main(*sys.argv[1:])
