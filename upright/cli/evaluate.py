"""`upright evaluate`."""

import json
from dataclasses import dataclass
from typing import Annotated

import tyro

from upright.cli import console
from upright.evaluation.episodes import Evaluation, evaluate
from upright.runs import Run, open_run_or_policy


@dataclass(frozen=True)
class Command:
    """Greedy episodes of a policy, or of every kept policy of a run, in Gymnasium's environment."""

    # run folder or policy file
    target: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_OR_POLICY")]
    episodes: int = 100  # for each policy
    seed: int = 0  # of the start states; the same seed gives the same ones
    # refuse a policy for another task than this
    task: Annotated[str | None, tyro.conf.arg(metavar="TASK")] = None
    json: bool = False  # print JSON, every return included

    def __call__(self) -> None:
        target = open_run_or_policy(self.target)
        if isinstance(target, Run):
            policies = {str(seed): policy for seed, policy in target.policies().items()}
        else:
            policies = {self.target: target}
        evaluations: dict[str, Evaluation] = {}
        with console.Steps("evaluating", len(policies), quiet=self.json) as steps:
            for name, policy in policies.items():
                evaluations[name] = evaluate(
                    policy, task=self.task, episodes=self.episodes, seed=self.seed
                )
                steps.advance()
        if self.json:
            results = {
                name: {**evaluation.summary(), "returns": evaluation.returns.tolist()}
                for name, evaluation in evaluations.items()
            }
            print(json.dumps(results, indent=2))
        else:
            console.print_evaluations(
                "seed" if isinstance(target, Run) else "policy", policies, evaluations
            )
