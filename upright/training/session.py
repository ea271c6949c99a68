"""One training under way: the orders for each seed, and the books."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from upright.agents.dqn import DQN
from upright.errors import UprightError
from upright.evaluation.episodes import evaluate
from upright.policy import Policy
from upright.runs import RunWriter, policy_path
from upright.training.fused import Fused, Step
from upright.training.interrupt import Interrupt
from upright.training.seeds import Fleet, Order, Result

CHUNK = 1000  # steps in one call of the compiled program: about a tenth of a second
JUDGEMENT_EPISODES = 100  # of each kept policy, in Gymnasium, after the training
JUDGEMENT_SEED = 2026  # apart from the start states by which training keeps its best
_NO_LIMIT = 2**31 - 1  # of episodes
_WATCH_SECONDS = 0.1  # between two calls of the watcher: a status looks at every seed


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
        if self.steps is not None and self.episodes is not None:
            raise UprightError("both steps and episodes are given; a training has one budget")
        for name in ("steps", "episodes", "evaluate_every", "evaluation_episodes"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and 1 <= value < 2**31):
                raise UprightError(
                    f"{name} is {value}; it must be a whole number from 1 on, below 2^31"
                )
        if self.steps is not None and self.steps <= self.agent.warmup_steps:
            raise UprightError(
                f"steps is {self.steps}, but learning starts after {self.agent.warmup_steps} steps"
                " (agent.warmup_steps)"
            )


@dataclass(frozen=True)
class Status:
    """What a display shows while a training goes on."""

    phase: Literal["compiling", "training", "stopping", "judging"]
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
        return self.rank()[0]

    def rank(self) -> tuple[float, int]:
        """Of the kept policy among those of all seeds: mean return, step. It never falls."""
        if self.kept is None:
            return -np.inf, 0
        return self.kept.training["evaluation"]["mean_return"], self.kept.training["step"]

    def summary(self) -> dict[str, Any]:
        """For run.json."""
        return {
            "seed": self.seed,
            "state": self.state,
            "steps": self.steps,
            "episodes": self.episodes,
            "kept": self.kept.training if self.kept else None,
            "last": self.last.training if self.last else None,
        }


class Session:
    """Learns, then judges; all that happens is in the run folder as soon as it is known."""

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
            self.started, shown = time.monotonic(), -np.inf
            for result in fleet.run(self.next_order):
                self.take(result)
                if time.monotonic() - shown >= _WATCH_SECONDS and self.steps:
                    shown = time.monotonic()
                    self.watch(self.status())
            self.watch(self.status())
        self.timings["compile_s"] = round(self.started - begin, 3)
        self.timings["training_s"] = round(time.monotonic() - self.started, 3)
        self.finish()

    def next_order(self, seed: int) -> Order | None:
        """Chunks up to the next evaluation; the first order and the last one only evaluate."""
        record, config = self.records[seed], self.config
        episodes = config.episodes or _NO_LIMIT
        left = min(CHUNK, (config.steps or np.inf) - record.steps)
        done = left == 0 or record.episodes >= episodes
        if record.state == "running" and record.evaluated and (done or self.interrupt.requested):
            self.end(record, "finished" if done else "interrupted")
        if record.state != "running":
            return None
        if done or self.interrupt.requested or record.last is None:
            return Order(0, episodes, evaluate=True)
        to_evaluation = config.evaluate_every - record.steps % config.evaluate_every
        return Order(int(min(left, to_evaluation)), episodes, evaluate=left >= to_evaluation)

    def end(
        self, record: SeedRecord, state: Literal["finished", "interrupted", "diverged"]
    ) -> None:
        """A seed goes no further: its last policy is written."""
        record.state = state
        if record.last:
            record.last.save(policy_path(self.writer.path, record.seed, last=True))

    def take(self, result: Result) -> None:
        """Writes down what a seed did."""
        record, log = self.records[result.seed], Step(*result.log.T)
        self.log_episodes(record, log)
        self.log_learning(record, log)
        record.steps += len(result.log)
        record.evaluated = False
        if not result.healthy:
            self.end(record, "diverged")
        elif result.returns is not None:
            self.keep(record, result)

    def log_episodes(self, record: SeedRecord, log: Step) -> None:
        """A row for each episode that ended."""
        for end in np.flatnonzero(log.ended):
            record.episodes += 1
            record.returns.append(float(log.episode_return[end]))
            step, total = record.steps + end + 1, f"{log.episode_return[end]:g}"
            length, terminated = int(log.episode_length[end]), int(log.terminated[end])
            row = (record.seed, record.episodes, step, total, length, terminated)
            self.writer.append("episodes", [row])

    def log_learning(self, record: SeedRecord, log: Step) -> None:
        """A row of averages over the chunk, once the seed learns."""
        agent = self.config.agent
        learned = slice(max(0, agent.warmup_steps - record.steps), None)
        if len(log.loss[learned]):
            steps = np.int32(record.steps + len(log.loss))
            means = log.loss[learned].mean(), log.q_mean[learned].mean()
            values = (*means, float(agent.epsilon(steps)), float(agent.rate(steps)))
            row = (record.seed, steps, *(f"{value:.6g}" for value in values))
            self.writer.append("learning", [row])

    def keep(self, record: SeedRecord, result: Result) -> None:
        """Notes an evaluation, and keeps the policy if none was better."""
        assert result.returns is not None
        returns = result.returns.astype(np.float64)
        mean, low, high = (float(f(returns)) for f in (np.mean, np.min, np.max))
        evaluation = {
            "mean_return": mean,
            "min_return": low,
            "max_return": high,
            "episodes": len(returns),
        }
        training = {
            "agent": "DQN",
            "seed": record.seed,
            "step": record.steps,
            "evaluation": evaluation,
        }
        record.evaluated = True
        record.last = self.config.agent.to_policy(result.agent, self.spec, training)
        kept = mean >= record.kept_return
        if kept:
            record.kept = record.last
            record.kept.save(policy_path(self.writer.path, record.seed))
            if max(self.records.values(), key=SeedRecord.rank) is record:
                record.kept.save(self.writer.path / "policies" / "best.safetensors")
        values = (f"{value:g}" for value in (mean, low, high))
        row = (record.seed, record.steps, record.episodes, *values, int(kept))
        self.writer.append("evaluations", [row])

    def finish(self) -> None:
        """Writes down how the seeds ended."""
        rate = self.steps / max(self.timings["training_s"], 1e-3)
        self.timings["steps_per_second"] = round(rate, 1)
        states = {record.state for record in self.records.values()}
        self.writer.save_info(
            status="interrupted" if "interrupted" in states else "finished",
            results=[record.summary() for record in self.records.values()],
            timings=self.timings,
        )

    def judge(self) -> None:
        """Greedy episodes of every kept policy in Gymnasium, until interrupted."""
        begin = time.monotonic()
        results = self.writer.info["results"]
        for done, (result, record) in enumerate(zip(results, self.records.values(), strict=True)):
            if self.interrupt.requested:
                self.writer.info["status"] = "interrupted"
                break
            if record.kept is None:
                continue
            self.watch(Status("judging", done / len(results)))
            judgement = evaluate(record.kept, episodes=JUDGEMENT_EPISODES, seed=JUDGEMENT_SEED)
            result["judgement"] = judgement.summary()
            self.writer.save_info()
        self.timings["judgement_s"] = round(time.monotonic() - begin, 3)
        self.writer.save_info()

    @property
    def steps(self) -> int:
        return sum(record.steps for record in self.records.values())

    def status(self) -> Status:
        """Over all seeds, at this moment."""
        records = list(self.records.values())
        fraction = float(np.mean([self.done(record) for record in records]))
        elapsed = time.monotonic() - self.started
        returns = [np.mean(record.returns) for record in records if record.returns]
        threshold = self.spec.solved_return
        return Status(
            phase="stopping" if self.interrupt.requested else "training",
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

    def done(self, record: SeedRecord) -> float:
        """Share of a seed's budget that is used up; of a seed that has ended all of it."""
        if record.state != "running":
            return 1.0
        if self.config.steps:
            return record.steps / self.config.steps
        return record.episodes / (self.config.episodes or _NO_LIMIT)
