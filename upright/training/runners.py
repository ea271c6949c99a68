"""Which runner a configuration means."""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any, Literal

from upright.bridge.flat import Flat, make_env
from upright.bridge.spec import read_spec
from upright.calling import option
from upright.checks import determinism
from upright.errors import UprightError
from upright.evaluation import MOST_STEPS
from upright.evaluation.conditions import conditions
from upright.evaluation.episodes import TOGETHER, Evaluation, judge, start_seeds
from upright.evaluation.players import Episodes, Observer
from upright.policy import Policy
from upright.runners.compiled import Compiled
from upright.runners.compiled_seeds import CompiledRunner
from upright.runners.fit import check_fit
from upright.runners.hosted import HostedRunner
from upright.runners.runner import Runner
from upright.spec import Spec
from upright.tasks import catalogue
from upright.training.config import ROW_STEPS, Config, no_window
from upright.windows import check_window

# Start states apart from each other, and from those of the episodes that are learned from.
_EVALUATION_SEED = 2025
_FINAL_SEED = 2026


def make_runner(config: Config, render: Literal["human"] | None = None) -> Runner:
    """Raises UprightError if there is no such task, or it is not for this agent."""
    agent, most_steps = config.agent, config.whole_ticks(ROW_STEPS)
    if config.runner == "compiled":
        task = config.make_task()
        check_fit(agent, task.spec, *_sizes(config))
        compiled = Compiled(task, agent, most_steps, config.evaluation_episodes, config.max_steps)
        return CompiledRunner(compiled, partial(_judge, config))
    native, make = find_task(config)
    env = make()
    try:
        glanced = None if native else determinism.glance(env)
        spec = native or read_spec(env, config.task)
        check_fit(agent, spec, *_sizes(config))
        if render and render not in env.metadata.get("render_modes", []):
            raise UprightError(
                f"task {config.task!r} has no window to show (render mode {render!r})"
            )
    finally:
        env.close()
    if render:
        with closing(make(render_mode=render)) as shown:
            shown.reset(seed=0)
            check_window(no_window())
    noticed = tuple(determinism.check_glance(glanced, make))
    make = _one_of_several(make)
    return HostedRunner(
        spec=spec,
        agent=agent,
        most_steps=most_steps,
        make_env=lambda seed: (
            make(render_mode=render) if render and seed == config.seeds[0] else make()
        ),
        # What keeps something from episode to episode does not belong to a policy's file.
        judge=partial(_judge, config, fresh=bool(noticed)),
        evaluation_seeds=start_seeds(_EVALUATION_SEED, config.evaluation_episodes),
        max_steps=config.max_steps,
        single=config.single,
        inline=render is not None or config.single,
        noticed=noticed,
    )


def _one_of_several(make: Callable[..., Flat]) -> Callable[..., Flat]:
    """The same, which says what it may mean if not even a second one can be made."""

    def another(**options: Any) -> Flat:
        try:
            return make(**options)
        except UprightError as error:
            single = option("environments", "one")
            hint = f"if there can be only one at a time: one seed, with {single}"
            raise UprightError(f"{error}; the first one could be made; {hint}") from error

    return another


def _judge(
    config: Config,
    policy: Policy,
    episodes: Episodes | None,
    observer: Observer,
    *,
    fresh: bool = False,
) -> list[Evaluation]:
    """The final evaluation of a policy; see `runners.runner.Judge`.

    `fresh`: in an environment of its own.
    """
    if episodes and fresh:
        episodes.close()  # there may be only one at a time
    if episodes and not fresh and not catalogue.is_native(config.task):
        starts = start_seeds(_FINAL_SEED, config.final_episodes)
        played = episodes.run(policy, starts, config.max_steps, observer=observer)
        return [Evaluation.of(played, starts)]
    task = config.factory or config.task
    drawn = (False, True) if config.randomise else (False,)
    places = [conditions(policy, task, randomised, env=config.env) for randomised in drawn]
    count, most = config.final_episodes, config.max_steps
    return [judge(policy, where, count, _FINAL_SEED, most, observer) for where in places]


def evaluation_steps(config: Config, spec: Spec, steps: float, length: float) -> float:
    """Steps of a seed's evaluations in so many steps of training, the final one included.

    In those of one environment, stepped from outside; what is compiled takes next to no time.
    `length`: of an episode.
    """
    length = min(length, config.max_steps or spec.episode_steps or MOST_STEPS)
    name, _ = config.environment()
    ours = isinstance(name, str) and name.startswith("upright/")
    together = min(config.final_episodes, TOGETHER) if ours else 1  # in one step
    final = config.final_episodes / together * (2 if config.randomise else 1)
    hosted = config.runner == "hosted"
    earlier = steps / config.evaluate_every * config.evaluation_episodes if hosted else 0
    return (earlier + final) * length


def find_task(config: Config) -> tuple[Spec | None, Callable[..., Flat]]:
    """What we know of a native task, and what makes Gymnasium's environment of any."""
    native = config.make_task().spec if catalogue.is_native(config.task) else None
    task, options = config.environment()
    action = native.action if native else None
    return native, partial(make_env, task, action, **options)


def _sizes(config: Config) -> tuple[int, int, int]:
    """How many seeds there are, ticks of a segment, episodes that are evaluated at once."""
    ticks = config.whole_ticks(ROW_STEPS) // config.agent.environments
    evaluated = config.evaluation_episodes if config.runner == "compiled" else 1
    return len(config.seeds), ticks, evaluated
