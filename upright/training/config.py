"""What is asked of a training."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from upright.agents import agent_from_dict, agent_to_dict
from upright.agents.agent import Agent
from upright.agents.presets import find_preset
from upright.errors import UprightError
from upright.policy import Provenance, Score
from upright.runs.folder import RunConfig
from upright.seeds import check_seeds, read_seeds
from upright.tasks import catalogue
from upright.tasks.catalogue import Physics, Ranges
from upright.tasks.task import Task

Runners = Literal["compiled", "hosted"]

ROW_STEPS = 1000  # between two rows of averages for each seed, and in one segment at most
CHECKPOINT_STEPS = 10_000
# Evaluations: a compiled one costs next to nothing; one in Gymnasium as much as training does.
_EVALUATIONS = {"compiled": (1000, 50), "hosted": (2000, 10)}  # every so many steps, of episodes
# What no result depends on, apart from the seeds, which each depend on themselves alone.
_LABELS = {"preset", "seeds", "checkpoint_every"}
_BUDGET = {"steps", "episodes"}


@dataclass(frozen=True)
class Config:
    """Checked when it is made; written into run.json."""

    task: str
    runner: Runners
    preset: str
    agent: Agent
    seeds: tuple[int, ...]
    steps: int | None  # budget for each seed: steps of the environment,
    episodes: int | None  # or episodes
    evaluate_every: int  # steps between greedy evaluations
    evaluation_episodes: int  # start states of one evaluation, the same each time
    checkpoint_every: int  # steps between checkpoints
    # what is changed of the task's parameters, by name [their units]
    physics: Mapping[str, float | tuple[float, ...]] = field(default_factory=dict)
    # what is drawn anew for each episode: lowest and highest, by name [their units]
    randomise: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.runner not in get_args(Runners):
            raise UprightError(f"runner is {self.runner!r}; it must be compiled or hosted")
        if self.steps is not None and self.episodes is not None:
            raise UprightError("both steps and episodes are given; a training has one budget")
        counts = ("evaluate_every", "evaluation_episodes", "checkpoint_every")
        for name in ("steps", "episodes", *counts):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and 1 <= value < 2**31):
                raise UprightError(
                    f"{name} is {value}; it must be a whole number from 1 on, below 2^31"
                )

    def record(self) -> RunConfig:
        """As it is written."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        agent = json.loads(json.dumps(agent_to_dict(self.agent)))
        return RunConfig(**{**values, "agent": agent})

    @classmethod
    def from_record(cls, record: RunConfig) -> "Config":
        """The inverse. A setting that the agent did not have yet gets its default.

        Raises UprightError where the values are none.
        """
        values: dict[str, Any] = {name.name: getattr(record, name.name) for name in fields(record)}
        values["agent"] = agent_from_dict(record.agent)
        values["seeds"] = check_seeds(record.seeds)
        values |= _plain_physics(record.physics, record.randomise)
        return cls(**values)

    def whole_ticks(self, steps: int) -> int:
        """As many or a few more: ticks of the environments that a seed acts in side by side."""
        return -(-steps // self.agent.environments) * self.agent.environments

    def settings(self) -> dict[str, Any]:
        """All that the result of a seed depends on, apart from the budget: plain JSON values."""
        values = asdict(self.record())
        return {n: value for n, value in values.items() if n not in _LABELS | _BUDGET}

    def with_settings(self, settings: dict[str, Any]) -> "Config":
        """This one with the settings of a checkpoint. Raises UprightError where they are none."""
        try:
            return Config.from_record(replace(self.record(), **settings))
        except TypeError:
            raise UprightError("settings of another version of upright") from None

    def with_budget(self, steps: int | None, episodes: int | None) -> "Config":
        """With a budget of the same kind, as large or larger; raises UprightError for another."""
        config = self
        for name, value in (("steps", steps), ("episodes", episodes)):
            before = getattr(self, name)
            if value is None:
                continue
            if before is None:
                other = "steps" if name == "episodes" else "episodes"
                raise UprightError(f"this run's budget is in {other}; use --{other}")
            if value < before:
                raise UprightError(f"{name} is {value}; the run has {before} already")
            config = replace(config, **{name: value})
        return config

    def differences(self, other: "Config") -> list[str]:
        """What a result depends on and is not the same, e.g. "gamma is 0.9 and 0.99"."""
        mine, theirs = (config.flat() for config in (self, other))
        names = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
        return [f"{name} is {_say(mine, name)} and {_say(theirs, name)}" for name in names]

    def flat(self) -> dict[str, Any]:
        """Settings and budget, those of the agent among them."""
        values: dict[str, Any] = self.settings()
        agent = values.pop("agent")
        budget = {"steps": self.steps, "episodes": self.episodes}
        physics = {
            f"{kind}.{name}": value
            for kind in ("physics", "randomise")
            for name, value in values.pop(kind).items()
        }
        return {**values, **physics, **budget, "agent": agent.pop("name"), **agent}

    def changes(self) -> tuple[str, ...]:
        """The agent's settings that are not the preset's, e.g. "gamma 0.9"."""
        usual, mine = agent_to_dict(find_preset(self.preset).agent), agent_to_dict(self.agent)
        return tuple(f"{name} {value}" for name, value in mine.items() if value != usual.get(name))

    def provenance(self, seed: int = 0, step: int = 0, score: Score | None = None) -> Provenance:
        """Where a policy of this training comes from."""
        name = type(self.agent).__name__
        return Provenance(name, seed, step, score, self.physics, self.randomise)

    def make_task(self) -> Task:
        """The native task that is meant. Raises UprightError if it is none."""
        return catalogue.make_task(self.task, self.physics, self.randomise)

    def environment(self) -> tuple[str, dict[str, Any]]:
        """Id and keywords of the Gymnasium environment that is meant."""
        return catalogue.environment(self.task, self.physics, self.randomise)


def plan(
    task: str,
    *,
    preset: str = "default",
    agent: Agent | None = None,
    seeds: int | str | Iterable[Any] = 20,
    steps: int | None = None,
    episodes: int | None = None,
    evaluate_every: int | None = None,
    evaluation_episodes: int | None = None,
    checkpoint_every: int = CHECKPOINT_STEPS,
    runner: Literal["auto", "compiled", "hosted"] = "auto",
    render: Literal["human"] | None = None,
    physics: Physics | None = None,
    randomise: Ranges | None = None,
) -> Config:
    """The training that is meant, what was left open filled in; arguments as of `train`.

    Raises UprightError on bad input.
    """
    chosen = find_preset(preset)
    if steps is None and episodes is None:
        steps, episodes = chosen.steps, chosen.episodes
    catalogue.load(task)
    if runner != "hosted":
        task = task.removeprefix("upright/")  # the same task, as Gymnasium knows it
    if runner == "auto":
        runner = "compiled" if catalogue.is_native(task) and not render else "hosted"
    if render and runner == "compiled":
        raise UprightError("the compiled runner cannot show a window; leave --runner out")
    every, each = _EVALUATIONS[runner]
    return Config(
        task=task,
        runner=runner,
        preset=preset,
        agent=agent or chosen.agent,
        seeds=read_seeds(seeds),
        steps=steps,
        episodes=episodes,
        evaluate_every=every if evaluate_every is None else evaluate_every,
        evaluation_episodes=each if evaluation_episodes is None else evaluation_episodes,
        checkpoint_every=checkpoint_every,
        **_checked_physics(task, physics or {}, randomise or {}),
    )


def _checked_physics(task: str, physics: Physics, randomise: Ranges) -> dict[str, Any]:
    """Raises UprightError where the task cannot have them."""
    plain = _plain_physics(physics, randomise)
    if plain["physics"] or plain["randomise"]:
        catalogue.environment(task, **plain)
        catalogue.make_task(task.removeprefix("upright/"), **plain)
    return plain


def _plain_physics(physics: Physics, randomise: Mapping[str, Any]) -> dict[str, Any]:
    """Python's own numbers and tuples, whatever kind of numbers and sequences are given."""
    return {
        "physics": {name: _plain(value) for name, value in physics.items()},
        "randomise": {name: _plain(value) for name, value in randomise.items()},
    }


def _plain(value: Any) -> Any:
    plain = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(plain, list | tuple):
        return tuple(map(_plain, plain))
    return float(plain) if type(plain) is int else plain


def _say(values: dict[str, Any], name: str) -> str:
    value = values.get(name)
    return "not given" if value is None else str(value)
