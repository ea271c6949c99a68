"""Which driver a configuration means."""

from functools import partial
from typing import Literal

from upright.errors import UprightError
from upright.evaluation.episodes import Episodes, start_seeds
from upright.tasks import NAMES, bridge, make_task
from upright.training.config import Config
from upright.training.fleet import Driver
from upright.training.fused import Fused
from upright.training.fused_crew import FusedDriver
from upright.training.session import CHUNK
from upright.training.stepwise import Stepwise

# Apart from those of the judgement and from those of the episodes that are learned from.
_EVALUATION_SEED = 2025


def make_driver(config: Config, render: Literal["human"] | None = None) -> Driver:
    """Raises UprightError if there is no such task, or it is not for this agent."""
    if config.driver == "fused":
        task = make_task(config.task)
        return FusedDriver(Fused(task, config.agent, CHUNK, config.evaluation_episodes))
    native = make_task(config.task).spec if config.task in NAMES else None
    values = native.action_values if native else None
    make = partial(bridge.make_env, config.task, values)
    env = make()
    spec = native or bridge.read_spec(env, config.task)
    env.close()
    if render and render not in env.metadata.get("render_modes", []):
        raise UprightError(f"task {config.task!r} has no window to show (render mode {render!r})")
    starts = start_seeds(_EVALUATION_SEED, config.evaluation_episodes)
    return Stepwise(
        spec=spec,
        agent=config.agent,
        chunk=CHUNK,
        make_env=lambda seed: (
            make(render_mode=render) if render and seed == config.seeds[0] else make()
        ),
        evaluation=lambda: Episodes(make, starts),
        inline=render is not None,
    )
