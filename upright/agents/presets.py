"""Named settings with their budget."""

from dataclasses import dataclass

from upright.agents.dqn import DQN
from upright.calling import check_kind, near
from upright.errors import UprightError


@dataclass(frozen=True)
class Preset:
    """One of the two budgets is None."""

    agent: DQN
    steps: int | None = None  # of the environment, for each seed
    episodes: int | None = None  # for each seed


PRESETS = {
    "default": Preset(DQN(), steps=20_000),
    # The values that the article prints are its episodes and its interval of synchronisation. The
    # others are those of the classic set-up that it cites (K. Saito, "Deep Learning from Scratch
    # 4", O'Reilly Japan, 2022, chapter 8), where learning starts once the replay holds a batch.
    "article": Preset(
        DQN(
            hidden=(128, 128),
            gamma=0.98,
            learning_rate=5e-4,
            batch_size=32,
            replay_size=10_000,
            learning_starts=31,
            epsilon_start=0.1,
            epsilon_end=0.1,
            epsilon_decay_steps=0,
            target_update="episodes",
            target_interval=20,
            gradient_steps=1,
            double=False,
            loss="mse",
            scale_observations=False,
        ),
        episodes=3000,
    ),
}


def find_preset(name: str) -> Preset:
    """Raises UprightError for an unknown name."""
    check_kind("preset", name, str, f"one of {', '.join(PRESETS)}")
    if name not in PRESETS:
        raise UprightError(f"unknown preset {name!r}; {near(name, PRESETS)}")
    return PRESETS[name]
