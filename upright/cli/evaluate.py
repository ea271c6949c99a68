"""`upright evaluate`."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from upright.cli import console, physics, words
from upright.evaluation.conditions import ranges_of
from upright.evaluation.episodes import Evaluation, evaluate
from upright.evaluation.players import Observer
from upright.policy import Policy
from upright.runs import Run, open_run_or_policy


@dataclass(frozen=True)
class Command:
    """Greedy episodes of a policy, or of every kept policy of a run, in Gymnasium's environment.

    With the physics that it was trained for; if these were randomised, once with their nominal
    values and once drawn anew for each episode.
    """

    # run folder or policy file
    target: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_OR_POLICY")]
    episodes: int = 100  # for each policy
    seed: int = 0  # of the start states; the same seed gives the same ones
    # cut episodes off after so many; if none is given: 1000, where the task has no time limit
    max_steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    # another task or version of it, whose observations and actions fit; or the policy's own, if
    # its id names a module, which is imported only then
    task: Annotated[str | None, tyro.conf.arg(metavar="TASK")] = None
    # parameters of a native task that are changed: half_length=1.0, or --physics.half-length 1.0
    physics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    # arguments of a Gymnasium environment itself: gravity=-5, or --env.gravity -5
    env: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    json: bool = False  # print JSON, every return included

    def __call__(self) -> None:
        target = open_run_or_policy(self.target)
        if isinstance(target, Run):
            policies = {str(seed): policy for seed, policy in target.policies().items()}
        else:
            policies = {self.target: target}
        nominal: dict[str, Evaluation] = {}
        randomised: dict[str, Evaluation] = {}
        given = physics.values(self.physics)
        twice = [name for name, p in policies.items() if ranges_of(p, self.task, given)]
        count = (len(policies) + len(twice)) * self.episodes
        with console.Evaluating(count, quiet=self.json) as display:
            for name, policy in policies.items():
                nominal[name] = self._evaluate(policy, display)
                if name in twice:
                    randomised[name] = self._evaluate(policy, display, randomised=True)
        if self.json:
            results = {name: _plain(evaluation) for name, evaluation in nominal.items()}
            for name, evaluation in randomised.items():
                results[name]["randomised"] = _plain(evaluation)
            print(json.dumps(results, indent=2))
            return
        kind = "seed" if isinstance(target, Run) else "policy"
        for evaluations in filter(None, (nominal, randomised)):
            name, first = next(iter(evaluations.items()))
            title = words.played(policies[name].provenance, evaluations is randomised)
            if first.changes:
                drawn = ", physics randomised" if evaluations is randomised else ""
                title = "; ".join(first.changes) + drawn
            console.print_evaluations(kind, policies, evaluations, title)

    def _evaluate(self, policy: Policy, observer: Observer, randomised: bool = False) -> Evaluation:
        return evaluate(
            policy,
            task=self.task,
            episodes=self.episodes,
            seed=self.seed,
            randomised=randomised,
            max_steps=self.max_steps,
            physics=physics.values(self.physics),
            env=physics.arguments(self.env),
            observer=observer,
        )


def _plain(evaluation: Evaluation) -> dict[str, Any]:
    summary = {**evaluation.summary(), "changes": list(evaluation.changes)}
    return {**summary, "returns": evaluation.returns.tolist()}


prepare = physics.gather
