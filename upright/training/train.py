"""Training: from a task and settings to a run folder with a kept policy for each seed."""

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from upright.agents.dqn import DQN
from upright.errors import UprightError
from upright.evaluation.episodes import evaluate
from upright.policy import Policy
from upright.runs import Run, RunWriter, policy_path
from upright.tasks import make_task
from upright.training import engine, machine
from upright.training.fused import Fused, Step
from upright.training.interrupt import Interrupt
from upright.training.presets import find_preset
from upright.training.seeds import Fleet, Order, Result, check_seeds, parse_seeds

CHUNK = 1000  # steps in one call of the compiled program: about a tenth of a second
JUDGEMENT_EPISODES = 100  # of each kept policy, in Gymnasium, after the training
JUDGEMENT_SEED = 2026  # apart from the start states by which training keeps its best


@dataclass(frozen=True)
class Config:
    """What is asked of a training; checked when it is made."""

    task: str
    preset: str
    agent: DQN
    seeds: tuple[int, ...]
    steps: int | None  # budget for each seed: steps of the environment,
    episodes: int | None  # or episodes
    evaluate_every: int  # steps between greedy evaluations
    evaluation_episodes: int  # start states of one evaluation, the same each time

    def __post_init__(self) -> None:
        check_seeds(self.seeds)
        for name in ("steps", "episodes", "evaluate_every", "evaluation_episodes"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < 2**31:
                raise UprightError(f"{name} is {value}; it must be at least 1 and below 2^31")


@dataclass
class SeedRecord:
    """How far one seed is, and the policies that it leaves."""

    seed: int
    state: Literal["running", "finished", "interrupted", "diverged"] = "running"
    steps: int = 0
    episodes: int = 0
    evaluated: bool = False  # at the present step
    returns: deque[float] = field(default_factory=lambda: deque[float](maxlen=20))  # latest ones
    kept: Policy | None = None  # best by evaluation, of equal ones the latest
    last: Policy | None = None  # latest one evaluated

    @property
    def kept_return(self) -> float:
        return self.kept.training["evaluation"]["mean_return"] if self.kept else -np.inf

    def summary(self) -> dict[str, Any]:
        """For run.json."""
        policies = {"kept": self.kept, "last": self.last}
        return {
            "seed": self.seed,
            "state": self.state,
            "steps": self.steps,
            "episodes": self.episodes,
            **{name: p.training if p else None for name, p in policies.items()},
        }


@dataclass(frozen=True)
class Status:
    """What a display shows while a training goes on."""

    phase: Literal["compiling", "training", "judging"]
    fraction: float  # of the phase that is done
    steps: int = 0  # over all seeds
    steps_per_second: float = 0.0
    seconds_left: float | None = None
    median_return: float | None = None  # over seeds, of their last 20 episodes' means
    worst_return: float | None = None
    threshold: float | None = None  # mean return from which the task counts as solved
    solved: int = 0  # seeds whose kept policy reaches it
    seeds: int = 0


Watch = Callable[[Status], None]


def train(
    task: str = "CartPole-v1",
    *,
    preset: str = "default",
    agent: DQN | None = None,
    seeds: int | str | Sequence[int] = 20,
    steps: int | None = None,
    episodes: int | None = None,
    evaluate_every: int = 1000,
    evaluation_episodes: int = 50,
    out: str | Path | None = None,
    watch: Watch = lambda status: None,
) -> Run:
    """Trains one agent for each seed and returns the run.

    `agent` and the budget (`steps` or `episodes` for each seed) are the preset's unless given.
    Ctrl-C ends in order: the run then holds all that was learned. Raises UprightError on bad input,
    before anything is written.
    """
    chosen = find_preset(preset)
    if steps is not None and episodes is not None:
        raise UprightError("both steps and episodes are given; a training has one budget")
    if steps is None and episodes is None:
        steps, episodes = chosen.steps, chosen.episodes
    config = Config(
        task=task,
        preset=preset,
        agent=agent or chosen.agent,
        seeds=tuple(parse_seeds(str(seeds)) if isinstance(seeds, int | str) else seeds),
        steps=steps,
        episodes=episodes,
        evaluate_every=evaluate_every,
        evaluation_episodes=evaluation_episodes,
    )
    driver = Fused(make_task(task), config.agent, CHUNK, evaluation_episodes)
    engine.keep_programs()
    info = {
        "command": sys.argv,
        "config": asdict(config),
        "spec": driver.task.spec.to_dict(),
        "seeds": list(config.seeds),
        "results": [],
        **machine.describe(),
    }
    path = Path(out) if out is not None else _default_folder(config)
    with RunWriter(path, info) as writer, Interrupt() as interrupt:
        session = _Session(config, driver, writer, interrupt, watch)
        session.learn()
        session.judge()
    return Run(path)


class _Session:
    """One training under way: it gives the orders and keeps the books."""

    def __init__(
        self, config: Config, driver: Fused, writer: RunWriter, interrupt: Interrupt, watch: Watch
    ):
        self.config = config
        self.driver = driver
        self.spec = driver.task.spec
        self.writer = writer
        self.interrupt = interrupt
        self.watch = watch
        self.records = {seed: SeedRecord(seed) for seed in config.seeds}
        self.started = 0.0  # of the training itself, by the monotonic clock [s]
        self.timings: dict[str, float] = {}

    def learn(self) -> None:
        """Trains until every seed has used up its budget, has diverged or was interrupted."""
        self.watch(Status("compiling", 0.0))
        begin = time.monotonic()
        with Fleet(self.driver, self.config.seeds) as fleet:
            self.started = time.monotonic()
            for result in fleet.run(self.next_order):
                self.take(result)
                self.watch(self.status())
        self.timings["compile_s"] = round(self.started - begin, 3)
        self.timings["training_s"] = round(time.monotonic() - self.started, 3)
        self.keep_last()

    def next_order(self, seed: int) -> Order | None:
        """Chunks up to the next evaluation; the first order and the last one only evaluate."""
        record, config = self.records[seed], self.config
        budget = config.steps or np.inf
        episodes = config.episodes or 2**31 - 1
        if record.state == "running" and record.evaluated:
            if record.steps >= budget or record.episodes >= episodes:
                record.state = "finished"
            elif self.interrupt.requested:
                record.state = "interrupted"
        if record.state != "running":
            return None
        done = record.steps >= budget or record.episodes >= episodes
        if done or self.interrupt.requested or not (record.steps or record.evaluated):
            return Order(0, episodes, evaluate=True)
        to_evaluation = config.evaluate_every - record.steps % config.evaluate_every
        steps = int(min(CHUNK, to_evaluation, budget - record.steps))
        return Order(steps, episodes, evaluate=steps in (to_evaluation, budget - record.steps))

    def take(self, result: Result) -> None:
        """Writes down what a seed did."""
        record, config = self.records[result.seed], self.config
        log = Step(*result.log.T)
        before = record.steps
        record.steps += len(result.log)
        record.evaluated = False
        ends = np.flatnonzero(log.ended)
        rows = [
            (
                record.seed,
                record.episodes + i + 1,
                before + end + 1,
                f"{log.episode_return[end]:g}",
                int(log.episode_length[end]),
                int(log.terminated[end]),
            )
            for i, end in enumerate(ends)
        ]
        self.writer.append("episodes", rows)
        record.episodes += len(ends)
        record.returns.extend(map(float, log.episode_return[ends]))
        steps = np.int32(record.steps)
        learned = slice(max(0, config.agent.warmup_steps - before), None)
        if len(log.loss[learned]):
            row = (
                record.seed,
                record.steps,
                f"{log.loss[learned].mean():.6g}",
                f"{log.q_mean[learned].mean():.6g}",
                f"{float(config.agent.epsilon(steps)):.6g}",
                f"{float(config.agent.rate(steps)):.6g}",
            )
            self.writer.append("learning", [row])
        if not result.healthy:
            record.state = "diverged"
        elif result.returns is not None:
            self.keep(record, result)

    def keep(self, record: SeedRecord, result: Result) -> None:
        """Notes an evaluation, and keeps the policy if none was better."""
        assert result.returns is not None
        evaluation = {
            "mean_return": float(result.returns.mean()),
            "min_return": float(result.returns.min()),
            "max_return": float(result.returns.max()),
            "episodes": len(result.returns),
        }
        training = {
            "agent": "DQN",
            "seed": record.seed,
            "step": record.steps,
            "evaluation": evaluation,
        }
        record.evaluated = True
        record.last = self.config.agent.to_policy(result.agent, self.spec, training)
        kept = evaluation["mean_return"] >= record.kept_return
        if kept:
            record.kept = record.last
            record.kept.save(policy_path(self.writer.path, record.seed))
        returns = (evaluation[name] for name in ("mean_return", "min_return", "max_return"))
        row = (record.seed, record.steps, record.episodes, *(f"{r:g}" for r in returns), int(kept))
        self.writer.append("evaluations", [row])

    def keep_last(self) -> None:
        """Writes every seed's last policy, the best of the kept ones, and how the seeds ended."""
        for record in self.records.values():
            if record.last:
                record.last.save(policy_path(self.writer.path, record.seed, last=True))
        best = max(self.records.values(), key=lambda record: (record.kept_return, record.steps))
        if best.kept:
            best.kept.save(self.writer.path / "policies" / "best.safetensors")
        seconds = self.timings["training_s"]
        self.timings["steps_per_second"] = round(self.steps / seconds, 1) if seconds else 0.0
        self.writer.save_info(
            status="interrupted" if self.interrupt.requested else "finished",
            results=[record.summary() for record in self.records.values()],
            timings=self.timings,
        )

    def judge(self) -> None:
        """Greedy episodes of every kept policy in Gymnasium, unless interrupted."""
        begin = time.monotonic()
        results = [record.summary() for record in self.records.values()]
        for result, record in zip(results, self.records.values(), strict=True):
            if self.interrupt.requested or record.kept is None:
                continue
            self.watch(Status("judging", results.index(result) / len(results)))
            judgement = evaluate(record.kept, episodes=JUDGEMENT_EPISODES, seed=JUDGEMENT_SEED)
            result["judgement"] = judgement.summary()
        self.timings["judgement_s"] = round(time.monotonic() - begin, 3)
        self.writer.save_info(results=results, timings=self.timings)

    @property
    def steps(self) -> int:
        return sum(record.steps for record in self.records.values())

    def status(self) -> Status:
        """Over all seeds, at this moment."""
        records, config = list(self.records.values()), self.config
        if config.steps:
            parts = [record.steps / config.steps for record in records]
        else:
            parts = [record.episodes / (config.episodes or 1) for record in records]
        over = [record.state != "running" for record in records]
        fraction = float(np.mean([1.0 if o else part for o, part in zip(over, parts, strict=True)]))
        elapsed = time.monotonic() - self.started
        returns = [np.mean(record.returns) for record in records if record.returns]
        threshold = self.spec.solved_return
        return Status(
            phase="training",
            fraction=fraction,
            steps=self.steps,
            steps_per_second=self.steps / elapsed,
            seconds_left=elapsed * (1 - fraction) / fraction if fraction else None,
            median_return=float(np.median(returns)) if returns else None,
            worst_return=float(np.min(returns)) if returns else None,
            threshold=threshold,
            solved=sum(threshold is not None and r.kept_return >= threshold for r in records),
            seeds=len(records),
        )


def _default_folder(config: Config) -> Path:
    return Path("runs") / f"{config.task}-{config.preset}-{datetime.now():%Y%m%d-%H%M%S}"
