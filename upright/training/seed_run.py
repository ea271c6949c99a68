"""One seed under way: what it does next, its rows, its policies, its checkpoints.

What happens does not depend on interruptions. Rows are written, and policies evaluated, at steps
that are fixed from the beginning; in between the log waits, in memory and in the checkpoint. When
the training ends, by its budget or by Ctrl-C, the last checkpoint is written first, and then the
seed is finalised; going on from the checkpoint forgets that.
"""

from collections import deque
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upright.errors import UprightError
from upright.policy import Policy, Score
from upright.runners.runner import NO_LIMIT, Runner, Segment, SegmentResult, StepLog
from upright.runs import checkpoint
from upright.runs.checkpoint import Checkpoint, Counters
from upright.runs.folder import (
    EPISODES,
    EVALUATIONS,
    Evaluated,
    FinalEvaluation,
    State,
    way_out,
)
from upright.runs.seed_writer import SeedWriter
from upright.runs.writer import RunWriter
from upright.training.config import ROW_STEPS, Config

_RETURNS = 20  # of the latest episodes, for a display
# That an evaluation may take before anything was learned: it tells little, and a task without an
# end would look dead. Not a share of the budget, which may grow: a resume changes nothing before.
_UNLEARNED_STEPS = 200


class SeedRun:
    """Alternates with a runner: `next_segment`, `on_result`, ... until there is nothing to do."""

    def __init__(self, config: Config, run: RunWriter, writer: SeedWriter):
        self.config = config
        self.run = run
        self.writer = writer
        self.seed = writer.info.seed
        self.state: State = "running"
        self.steps = 0  # of all its environments
        self.episodes = 0  # finished
        self.written = 0  # steps that the rows tell of
        self.returns: deque[float] = deque(maxlen=_RETURNS)
        self.kept: Policy | None = None  # best by evaluation, of equal ones the latest
        self.last: Policy | None = None  # latest one evaluated
        self.judged: list[FinalEvaluation] = []  # nominal physics, randomised ones
        self.error: str | None = None  # why it failed
        self._tried = False  # to evaluate before anything was learned
        self._saved = False  # the newest checkpoint is of this moment
        self._finalised = False
        agent = config.agent
        width = StepLog.width(agent.environments, len(agent.Metrics._fields))
        self._no_rows = np.zeros((0, width), np.float32)
        self._unwritten = [self._no_rows]  # packed logs
        self._columns = {
            "episodes": EPISODES,
            "evaluations": EVALUATIONS,
            "learning": ("step", *agent.Metrics._fields, *agent.schedules(0)),
        }

    def begin(self) -> None:
        """From the beginning."""
        self.writer.begin(self._columns)

    def read_checkpoint(self, runner: Runner) -> tuple[Checkpoint | None, list[str]]:
        """The newest usable one, None if it had none, and what is wrong with newer ones.

        Nothing is changed. Raises UprightError if all are damaged, or of something else.
        """
        found, complaints = checkpoint.newest(
            self.writer.path / "checkpoints",
            runner.template(),
            self._check,
            partial(self._check_state, runner),
        )
        if found:
            self.writer.check(found.counters.tables)
        elif self.writer.policy_path("kept").exists():
            place = self.writer.path
            raise UprightError(f"{place}: has no checkpoint to go on from; {way_out(place)}")
        return found, complaints

    def restore(self, found: Checkpoint) -> None:
        """As it was at the checkpoint."""
        counters = found.counters
        self.writer.rewind(counters.tables)
        # Whoever failed tries again.
        self.state = "diverged" if counters.diverged else "running"
        self.steps, self.episodes = counters.steps, counters.episodes
        self.written = counters.written
        self.returns.extend(counters.returns)
        self.kept, self.last = found.kept, found.last
        self._unwritten = [found.unwritten]
        self._saved = True
        self.writer.put_policy("kept", self.kept)
        self.writer.put_policy("last", self.last)
        checkpoint.prune(self.writer.path / "checkpoints", self.steps, self._is_regular)

    def next_segment(self, cancelled: bool) -> Segment | None:
        """What to do next; None: nothing, it has ended. `cancelled`: it shall end now."""
        if not self._finalised:
            segment = None if cancelled else self._training_segment()
            if segment:
                return segment
            if not self._saved:
                return Segment(0, save=True)
            self._write_rows()
            self._finalised = True
            if self.state == "running" and self._evaluated_at != self.steps:
                return self._evaluation()  # asked once: Ctrl-C may cut it
        self._end()
        return None

    def count(self, log: StepLog) -> None:
        """Adds the steps, episodes and returns of a log to those of the seed."""
        ended = log.ended > 0
        self.steps += ended.size
        self.episodes += int(ended.sum())
        returns = log.episode_return[ended]
        self.returns.extend(returns[np.isfinite(returns)].tolist())

    def on_result(self, result: SegmentResult) -> None:
        """Notes what it has done and was counted; writes it down if it has come to a row."""
        self._unwritten.append(result.log.pack())
        self._saved = self._saved and not result.log.ended.size
        if result.error:
            self.state, self.error = "failed", result.error
        elif not result.finite:
            self._write_rows()
            self.state = "diverged"
        elif result.policy and result.returns is not None:
            self._write_rows()
            # It is no reason for another checkpoint: going on, it is made again.
            self._on_evaluation(result.policy, result.returns)
        elif self.steps == self._next_row() and not self._is_evaluation(self.steps):
            self._write_rows()
        if result.state is not None:
            self._save_checkpoint(result.state)

    def save(self) -> None:
        """Writes seed.json."""
        nominal, randomised = (*self.judged, None, None)[:2]
        self.writer.save_info(
            state=self.state,
            steps=self.steps,
            episodes=self.episodes,
            kept=Evaluated.of(self.kept) if self.kept else None,
            last=Evaluated.of(self.last) if self.last else None,
            final_evaluation=nominal,
            randomised_evaluation=randomised,
            error=self.error,
        )

    @property
    def fraction(self) -> float:
        """How much of its budget is used up, from 0 to 1; 1 of a seed that has ended."""
        if self.state != "running":
            return 1.0
        if self.config.steps:
            return min(1.0, self.steps / self.config.steps)
        return min(1.0, self.episodes / (self.config.episodes or NO_LIMIT))

    def solves(self, threshold: float | None) -> bool:
        """By its kept policy's evaluation."""
        if threshold is None or not self.kept:
            return False
        return Evaluated.of(self.kept).mean_return >= threshold

    @property
    def _evaluated_at(self) -> int | None:
        return Evaluated.of(self.last).step if self.last else None

    def _training_segment(self) -> Segment | None:
        """On to the next row, checkpoint or end; None where the budget is used up."""
        if self.state != "running":
            return None
        if self.steps == 0 and self.last is None and not self._tried:
            # The first checkpoint is there before anything that a resume would have to take back.
            return self._evaluation() if self._saved else Segment(0, save=True)
        row, budget = self._next_row(), self.config.whole_ticks(self.config.steps or NO_LIMIT)
        every = self.config.checkpoint_every
        due = self.config.whole_ticks((self.steps // every + 1) * every)
        end = min(row, due, budget)
        if self.steps == row:  # its evaluation was interrupted
            return Segment(0, evaluate=True, save=self._is_checkpoint(row))
        if self.fraction == 1:
            return None
        return Segment(
            end - self.steps,
            self.config.episodes or NO_LIMIT,
            evaluate=self._is_evaluation(end),
            save=self._is_checkpoint(end),
        )

    def _evaluation(self) -> Segment:
        """At this step."""
        if self.steps:
            return Segment(0, evaluate=True)
        self._tried = True
        return Segment(0, evaluate=True, evaluation_steps=_UNLEARNED_STEPS)

    def _next_row(self) -> int:
        every = (ROW_STEPS, self.config.evaluate_every)
        return min(self.config.whole_ticks((self.written // steps + 1) * steps) for steps in every)

    def _is_evaluation(self, step: int) -> bool:
        return step % self.config.evaluate_every < self.config.agent.environments

    def _is_checkpoint(self, step: int) -> bool:
        return self._is_regular(step) or step >= (self.config.steps or NO_LIMIT)

    def _is_regular(self, step: int) -> bool:
        """Whether a checkpoint is due, whatever the budget is."""
        return step % self.config.checkpoint_every < self.config.agent.environments

    def _on_evaluation(self, policy: Policy, returns: NDArray[np.floating[Any]]) -> None:
        """Keeps the policy if none was better."""
        values = returns.astype(np.float64)
        evaluated = Evaluated(
            step=self.steps,
            mean_return=float(values.mean()),
            min_return=float(values.min()),
            max_return=float(values.max()),
            episodes=len(values),
        )
        self.last = _with_provenance(policy, self.config, self.seed, evaluated)
        before = Evaluated.of(self.kept).mean_return if self.kept else -np.inf
        kept = evaluated.mean_return >= before
        if kept:
            self.kept = self.last
            self.writer.put_policy("kept", self.kept)
            self.run.offer_best(self.kept)
        numbers = (evaluated.mean_return, evaluated.min_return, evaluated.max_return)
        row = (self.steps, self.episodes, *map(_shortest, numbers), int(kept))
        self.writer.append("evaluations", [row])

    def _write_rows(self) -> None:
        """What was unwritten: a row for each episode that ended, and one of averages."""
        environments = self.config.agent.environments
        log = StepLog.unpack(np.concatenate(self._unwritten), environments)
        self._unwritten = [self._no_rows]
        ends = np.argwhere(log.ended > 0).tolist()
        episodes: list[tuple[object, ...]] = []
        for episode, (tick, place) in enumerate(ends, start=self.episodes - len(ends) + 1):
            step = self.written + (tick + 1) * environments
            total = _shortest(log.episode_return[tick, place])
            length, terminated = log.episode_length[tick, place], log.terminated[tick, place]
            episodes.append((episode, step, total, int(length), int(terminated)))
        self.writer.append("episodes", episodes)
        if log.learned.any():
            means = log.metrics[log.learned > 0].mean(axis=0)
            schedules = self.config.agent.schedules(self.steps).values()
            row = (self.steps, *map(_shortest, means), *map(_shortest, schedules))
            self.writer.append("learning", [row])
        self.written = self.steps

    def _save_checkpoint(self, state: Any) -> None:
        counters = Counters(
            seed=self.seed,
            settings=self.config.settings(),
            tables=self.writer.seals(),
            diverged=self.state == "diverged",
            steps=self.steps,
            episodes=self.episodes,
            written=self.written,
            returns=tuple(self.returns),
        )
        unwritten = np.concatenate(self._unwritten)
        checkpoint.save(
            self.writer.path / "checkpoints",
            Checkpoint(counters, state, unwritten, self.kept, self.last),
            self._is_regular,
        )
        self._saved = True

    def _check(self, counters: Counters) -> None:
        """Raises UprightError unless the checkpoint is of this seed, with these settings."""
        if counters.seed != self.seed:
            raise UprightError(f"{self.writer.path}: holds seed {counters.seed}; was it renamed?")
        if counters.tables.keys() != self._columns.keys():
            raise UprightError(f"{self.writer.path}: its checkpoint is of other tables")
        budget = self.config.whole_ticks(self.config.steps or NO_LIMIT)
        if counters.steps > budget:
            raise UprightError(
                f"{self.run.path / 'run.json'}: steps is {self.config.steps}, and seed {self.seed}"
                f" has done {counters.steps}; was run.json edited?"
            )
        try:
            before = self.config.with_settings(counters.settings)
        except UprightError as error:
            raise UprightError(f"{self.writer.path}: its checkpoint has {error}") from None
        if differences := self.config.differences(before):
            raise UprightError(
                f"{self.run.path / 'run.json'}: {'; '.join(differences)} in the checkpoint of seed"
                f" {self.seed}; was run.json edited?"
            )

    def _check_state(self, runner: Runner, found: Checkpoint) -> None:
        """Raises ValueError or UprightError unless all in a checkpoint goes together."""
        counters, rows = found.counters, found.unwritten
        ticks = (counters.steps - counters.written) // self.config.agent.environments
        if rows.dtype != np.float32 or rows.shape != (ticks, self._no_rows.shape[1]):
            raise ValueError("what is not written yet")
        counted = int(found.state.steps), int(found.state.episodes)
        if counted != (counters.steps, counters.episodes):
            raise ValueError("counted otherwise")
        for policy in filter(None, (found.kept, found.last)):
            Evaluated.of(policy)
            if policy.spec != runner.spec:
                raise ValueError("a policy of another task")
        runner.check(found.state)

    def _end(self) -> None:
        """It goes no further."""
        if self.state == "running":
            done = self.fraction == 1 and self._evaluated_at == self.steps
            self.state = "finished" if done else "interrupted"
        if self.last:
            self.writer.put_policy("last", self.last)
        checkpoint.prune(self.writer.path / "checkpoints", self.steps, self._is_regular)


def _with_provenance(policy: Policy, config: Config, seed: int, evaluated: Evaluated) -> Policy:
    values = asdict(evaluated)
    step = values.pop("step")
    return replace(policy, provenance=config.provenance(seed, step, Score(**values)))


def _shortest(number: Any) -> str:
    """The shortest text that gives the same number again, in its own precision."""
    return str(number).removesuffix(".0")
