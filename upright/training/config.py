"""What is asked of a training."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from upright.agents import agent_from_dict, agent_to_dict
from upright.agents.agent import Agent, check_agent
from upright.agents.presets import find_preset
from upright.bridge.arguments import check_env
from upright.bridge.factory import Factory, named
from upright.calling import check_names, option, whole
from upright.errors import UprightError, shown
from upright.parameters import is_finite
from upright.plain import parse
from upright.policy import Provenance, Score
from upright.runs import Run
from upright.runs.folder import RunConfig
from upright.runs.typed import from_plain
from upright.seeds import read_seeds
from upright.tasks import catalogue
from upright.tasks.catalogue import Physics, Ranges
from upright.tasks.task import Task
from upright.windows import check_display

Runners = Literal["compiled", "hosted"]

ROW_STEPS = 1000  # between two rows of averages for each seed, and in one segment at most
CHECKPOINT_STEPS = 10_000
FINAL_EPISODES = 100
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
    final_episodes: int = FINAL_EPISODES  # of each kept policy, after the training
    # after which an evaluated episode is cut off; None: 1,000, if the task has no time limit
    max_steps: int | None = None
    # the seed is evaluated in the environment that it learns in: there can be no other one
    single: bool = False
    # what is changed of the task's parameters, by name [their units]
    physics: Mapping[str, float | tuple[float, ...]] = field(default_factory=dict)
    # what is drawn anew for each episode: lowest and highest, by name [their units]
    randomise: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    env: Mapping[str, Any] = field(default_factory=dict)  # arguments of the environment: scalars
    # what makes the environment, where the task has no id; it is not written
    factory: Factory | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.runner not in get_args(Runners):
            raise UprightError(f"runner is {self.runner!r}; it must be compiled or hosted")
        self.record()  # which has the bounds of all numbers
        if self.single:
            self._check_single()

    def _check_single(self) -> None:
        if self.runner != "hosted":
            raise UprightError(
                f"environments one: the compiled runner, which trains {self.task}, makes none;"
                " leave it out, or choose the hosted runner"
            )
        for name, count in (("seeds", len(self.seeds)), ("environments", self.agent.environments)):
            if count != 1:
                raise UprightError(f"environments one: there are {count} {name}; it must be 1")

    def record(self) -> RunConfig:
        """As it is written."""
        values = {field.name: getattr(self, field.name) for field in fields(RunConfig)}
        agent = json.loads(json.dumps(agent_to_dict(self.agent)))
        return RunConfig(**{**values, "agent": agent})

    @classmethod
    def from_record(cls, record: RunConfig) -> "Config":
        """The inverse. A setting that the agent did not have yet gets its default.

        Raises UprightError where the values are none.
        """
        values: dict[str, Any] = {name.name: getattr(record, name.name) for name in fields(record)}
        values["agent"] = agent_from_dict(record.agent)
        values |= _plain_physics(record.physics, record.randomise)
        values["env"] = check_env(record.env)
        return cls(**values)

    @classmethod
    def of_run(cls, run: Run) -> "Config":
        """What a run was asked for. Raises UprightError where run.json has it wrong."""
        try:
            return cls.from_record(run.info.config)
        except UprightError as error:
            raise UprightError(f"{run.path}: run.json is damaged ({error})") from None

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
            plain_record = parse(json.dumps({**asdict(self.record()), **settings}))
            config = Config.from_record(from_plain(RunConfig, plain_record))
            return replace(config, factory=self.factory)
        except (TypeError, ValueError):
            raise UprightError("settings of another version, or damaged ones") from None

    def with_budget(self, steps: int | None, episodes: int | None) -> "Config":
        """With a budget of the same kind, as large or larger; raises UprightError for another."""
        config = self
        for name, value in (("steps", steps), ("episodes", episodes)):
            before = getattr(self, name)
            if value is None:
                continue
            value = whole(name, value, at_least=1)
            if before is None:
                other = "steps" if name == "episodes" else "episodes"
                raise UprightError(f"this run's budget is in {other}; use {option(other)}")
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
            for kind in ("physics", "randomise", "env")
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
        return Provenance(name, seed, step, score, self.physics, self.randomise, self.env)

    def make_task(self) -> Task:
        """The native task that is meant. Raises UprightError if it is none."""
        return catalogue.make_task(self.task, self.physics, self.randomise)

    def environment(self) -> tuple[str | Factory, dict[str, Any]]:
        """Id, or what makes it, and keywords of the Gymnasium environment that is meant."""
        name, physics = catalogue.environment(self.task, self.physics, self.randomise)
        return self.factory or name, {**physics, **self.env}


def plan(
    task: str | Factory,
    *,
    preset: str = "default",
    agent: Agent | None = None,
    seeds: int | str | Iterable[Any] = 20,
    steps: int | None = None,
    episodes: int | None = None,
    evaluate_every: int | None = None,
    evaluation_episodes: int | None = None,
    checkpoint_every: int = CHECKPOINT_STEPS,
    final_episodes: int = FINAL_EPISODES,
    max_steps: int | None = None,
    environments: Literal["several", "one"] = "several",
    runner: Literal["auto", "compiled", "hosted"] = "auto",
    render: Literal["human"] | None = None,
    physics: Physics | None = None,
    randomise: Ranges | None = None,
    env: Mapping[str, Any] | None = None,
) -> Config:
    """The training that is meant, what was left open filled in; arguments as of `train`.

    Raises UprightError on bad input.
    """
    check_render(render)
    chosen = find_preset(preset)
    if environments not in ("several", "one"):
        raise UprightError(f"environments is {shown(environments)}; it must be several or one")
    if agent is not None:
        check_agent(agent)
    if steps is None and episodes is None:
        steps, episodes = chosen.steps, chosen.episodes
    task, factory = named(task)
    if not factory:
        catalogue.load(task)
    own = check_env(env or {})
    _check_runner(task, runner, factory, bool(own), bool(physics or randomise))
    if runner != "hosted":
        task = task.removeprefix("upright/")  # the same task, as Gymnasium knows it
    if runner == "auto":
        compiled = catalogue.is_native(task) and not render and not own
        runner = "compiled" if compiled else "hosted"
    if render and runner == "compiled":
        raise UprightError(
            f"the compiled runner cannot show a window; leave {option('runner')} out"
        )
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
        final_episodes=final_episodes,
        max_steps=max_steps,
        single=environments == "one",
        **_checked_physics(task, physics or {}, randomise or {}),
        env=own,
        factory=factory,
    )


def _check_runner(
    task: str, runner: str, factory: Factory | None, env: bool, physics: bool
) -> None:
    """Raises UprightError where these do not go together. `env`, `physics`: whether given."""
    if runner not in ("auto", *get_args(Runners)):
        raise UprightError(f"runner is {shown(runner)}; it must be auto, compiled or hosted")
    if factory and runner == "compiled":
        leave = f"leave {option('runner')} out"
        raise UprightError(f"{task} is made by a function, so it is hosted; {leave}")
    if factory and (env or physics):
        raise UprightError(f"{task} is made by a function; let it set physics and env itself")
    if env and physics:
        raise UprightError(f"physics and env are both given; {task} has the one or the other")
    if env and runner == "compiled":
        raise UprightError("env is for Gymnasium's environments; parameters of the plant: physics")


def check_render(render: str | None) -> None:
    """Raises UprightError for a mode that there is not, and where nobody could see the window."""
    if render not in (None, "human"):
        raise UprightError(f"render is {shown(render)}; it must be 'human', or left out")
    if render:
        check_display(no_window())


def no_window() -> str:
    """What to do where there is no display."""
    return f"leave {option('render')} out, and watch the policy afterwards: upright play"


def _checked_physics(task: str, physics: Physics, randomise: Ranges) -> dict[str, Any]:
    """Raises UprightError where the task cannot have them."""
    for what, given in (("physics", physics), ("randomise", randomise)):
        check_names(what, given, "parameters by name, as {'half_length': 1.0}")
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
    return float(plain) if type(plain) is int and is_finite(plain) else plain


def _say(values: dict[str, Any], name: str) -> str:
    value = values.get(name)
    text = "not given" if value is None else str(value)
    return text if text.isprintable() else repr(text)
