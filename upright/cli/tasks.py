"""`upright tasks`."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

import gymnasium as gym
import tyro

from upright.cli import console, words
from upright.spec import Spec
from upright.tasks import catalogue, parameters

_MOST_OTHERS = 60  # ids that somebody still reads


@dataclass(frozen=True)
class Command:
    """What there is to train on. Of one task: its channels and its parameters, with their bounds.

    A native task is compiled together with the agent; any other one is Gymnasium's.
    """

    # a native task, e.g. CartPole-v1; my_plant:Wheel-v0 imports the module my_plant first
    task: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="TASK")] = None
    json: bool = False  # print JSON

    def __call__(self) -> None:
        if self.task is None:
            tasks = {name: catalogue.make_task(name).spec for name in catalogue.names()}
            others = _others()
            if self.json:
                natives = {name: _plain(spec) for name, spec in tasks.items()}
                print(json.dumps({"native": natives, "others": others}, indent=2))
            else:
                _print(tasks, others)
            return
        task = catalogue.make_task(catalogue.load(self.task))
        known = parameters.of(task)
        if self.json:
            values = {
                name: {"value": p.value, "unit": p.bounds.unit, "bounds": str(p.bounds)}
                for name, p in known.items()
            }
            print(json.dumps({**_plain(task.spec), "parameters": values}, indent=2))
        else:
            _print_one(task.spec, known)


def _plain(spec: Spec) -> dict[str, Any]:
    return {**spec.to_dict(), "symmetric": spec.mirror is not None}


def _others() -> list[str]:
    """Newest ids of Gymnasium's registry that are not native; none is made, as some are slow."""
    specs = sorted(gym.registry.values(), key=lambda spec: spec.version or 0)
    newest = {spec.name: spec.id for spec in specs if spec.namespace is None}
    hidden = {"GymV21Environment-v0", "GymV26Environment-v0", *catalogue.names()}
    return sorted(set(newest.values()) - hidden)


def _print(tasks: dict[str, Spec], others: list[str]) -> None:
    table = console.new_table()
    table.add_column("task", no_wrap=True)
    for column in ("observation", "action", "time limit", "symmetric"):
        table.add_column(column)
    for name, spec in tasks.items():
        table.add_row(
            name,
            ", ".join(channel.name for channel in spec.observation.channels),
            words.inputs(spec),
            _limit(spec),
            "yes" if spec.mirror else "no",
        )
    console.print_table(table)
    console.out.say(
        "These are native: compiled together with the agent. Of Gymnasium's any other one can be"
        " trained whose observation is a Box and whose action is Discrete:"
    )
    more = len(others) - _MOST_OTHERS
    console.out.say(
        ", ".join(others[:_MOST_OTHERS]) + (f", and {more} more (--json)" if more > 0 else "")
    )


def _limit(spec: Spec) -> str:
    steps = words.count(spec.episode_steps, "step") if spec.episode_steps else "none; steps"
    return f"{steps} of {spec.dt:.3g} s" if spec.dt else steps.removesuffix("; steps")


def _print_one(spec: Spec, known: dict[str, parameters.Parameter]) -> None:
    symmetric = "yes" if spec.mirror else "no"
    pairs = {"task": spec.task, "action": words.action(spec), "time limit": _limit(spec)}
    console.print_pairs({**pairs, "symmetric": symmetric})
    table = console.new_table(title="observation")
    for column in ("name", "unit"):
        table.add_column(column)
    for channel in spec.observation.channels:
        table.add_row(channel.name, channel.unit)
    console.print_table(table)
    table = console.new_table(title="parameters (--physics.NAME, --randomise NAME=LOW:HIGH)")
    for column in ("name", "value", "unit", "each number"):
        table.add_column(column)
    for name, parameter in known.items():
        value, bounds = words.numbers(parameter.value), parameter.bounds
        table.add_row(name, value, bounds.unit, str(bounds) or "finite")
    console.print_table(table)
