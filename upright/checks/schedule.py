"""Schedules against the budget."""

from upright.agents.dqn import DQN
from upright.finding import Finding


def check(agent: DQN, steps: float, longest_episode: int = 0) -> list[Finding]:
    """`steps`: the budget of a seed; `longest_episode`: that was seen [steps]."""
    findings: list[Finding] = []
    if agent.warmup_steps >= steps:
        findings.append(
            Finding(
                "schedule",
                "problem",
                f"learning starts after {agent.warmup_steps:,} steps, the budget is {steps:,.0f}",
                "more --steps, or a smaller agent.warmup_steps",
            )
        )
    if agent.epsilon_decay_steps > steps and agent.epsilon_start != agent.epsilon_end:
        end = _end(agent.epsilon_start, agent.epsilon_end, steps / agent.epsilon_decay_steps)
        findings.append(
            Finding(
                "schedule",
                "advice",
                f"epsilon is still {end:.2f} after the budget of {steps:,.0f} steps: its decay"
                f" takes {agent.epsilon_decay_steps:,}",
                "more --steps, or a smaller agent.epsilon_decay_steps",
            )
        )
    decay = agent.learning_rate_decay_steps
    if decay > steps and agent.learning_rate != agent.learning_rate_end:
        end = _end(agent.learning_rate, agent.learning_rate_end, steps / decay)
        findings.append(
            Finding(
                "schedule",
                "advice",
                f"the learning rate is still {end:.2g} after the budget of {steps:,.0f} steps: its"
                f" decay takes {decay:,}",
                "more --steps, or a smaller agent.learning_rate_decay_steps",
            )
        )
    if agent.replay_size < longest_episode:
        findings.append(
            Finding(
                "schedule",
                "advice",
                f"the replay holds {agent.replay_size:,} steps, an episode {longest_episode:,}",
                "a larger agent.replay_size: ten episodes or more",
            )
        )
    text = (
        f"{steps:,.0f} steps: learns from {agent.warmup_steps:,} on, epsilon falls for"
        f" {agent.epsilon_decay_steps:,}"
    )
    return findings or [Finding("schedule", "fine", text)]


def _end(start: float, end: float, progress: float) -> float:
    return start + (end - start) * progress
