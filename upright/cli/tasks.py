"""`upright tasks`."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

import gymnasium as gym
import tyro

from upright.cli import console, words
from upright.spec import Spec
from upright.tasks import catalogue, parameters


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
            values = {n: {"value": p.value, "bounds": str(p.bounds)} for n, p in known.items()}
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
    for column in ("task", "observation", "action", "dt", "limit", "symmetric", "native"):
        table.add_column(column, overflow="fold")
    for name, spec in tasks.items():
        table.add_row(
            name,
            ", ".join(channel.name for channel in spec.observation.channels),
            words.inputs(spec),
            f"{spec.dt:.3g} s" if spec.dt else "-",
            f"{spec.episode_steps} steps" if spec.episode_steps else "none",
            "yes" if spec.mirror else "no",
            "yes",
        )
    console.out.print(table)
    console.out.print(
        f"and {len(others)} of Gymnasium's, not native; one whose observation is a Box and whose"
        f" action is Discrete can be trained: {', '.join(others)}"
    )


def _print_one(spec: Spec, known: dict[str, parameters.Parameter]) -> None:
    limit = f"{spec.episode_steps} steps" if spec.episode_steps else "none"
    symmetric = "yes" if spec.mirror else "no"
    pairs = {"task": spec.task, "action": words.action(spec), "limit": limit}
    console.print_pairs({**pairs, "symmetric": symmetric})
    table = console.new_table(title="observation")
    for column in ("name", "unit"):
        table.add_column(column)
    for channel in spec.observation.channels:
        table.add_row(channel.name, channel.unit)
    console.out.print(table)
    table = console.new_table(title="parameters (--physics.NAME, --randomise NAME=LOW:HIGH)")
    for column in ("name", "value", "each number"):
        table.add_column(column)
    for name, parameter in known.items():
        table.add_row(name, words.numbers(parameter.value), str(parameter.bounds) or "finite")
    console.out.print(table)
