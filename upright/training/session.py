"""One training under way: the orders for each seed, and the books.

What happens does not depend on interruptions. Rows are written, and policies evaluated, at steps
that are fixed from the beginning; in between the log of a seed waits. A checkpoint holds all that
there is at that moment. When the training ends, by its budget or by Ctrl-C, the last checkpoint is
written first and then the books are closed; going on from the checkpoint forgets the closing.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np

from upright.errors import UprightError
from upright.evaluation.episodes import Stopped, evaluate
from upright.policy import Policy, Provenance, Score
from upright.runs import RunWriter, policy_path
from upright.training import checkpoints
from upright.training.checkpoints import Checkpoint
from upright.training.config import Config
from upright.training.fleet import NO_LIMIT, Crew, Driver, Fleet, Order, Result, Step
from upright.training.interrupt import Interrupt
from upright.training.records import SeedRecord, Status, Watch

CHUNK = 1000  # steps between two rows of averages for each seed
JUDGEMENT_EPISODES = 100  # of each kept policy, in Gymnasium, after the training
JUDGEMENT_SEED = 2026  # apart from the start states by which training keeps its best
_NO_ROWS = np.zeros((0, len(Step._fields)), np.float32)
_WATCH_SECONDS = 0.1  # between two calls of the watcher: a status looks at every seed


class Session:
    """Learns, then judges; all that happens is in the run folder as soon as it is known."""

    def __init__(
        self, config: Config, driver: Driver, writer: RunWriter, interrupt: Interrupt, watch: Watch
    ):
        self.config = config
        self.driver = driver
        self.spec = driver.spec
        self.writer = writer
        self.interrupt = interrupt
        self.watch = watch
        self.records = {seed: SeedRecord(seed) for seed in config.seeds}
        self.resumed: Checkpoint | None = None
        self.leg_end = 0  # the next checkpoint [steps of each seed]
        self.started = 0.0  # of the training itself, by the monotonic clock [s]
        self.steps_before = 0  # of this process, over all seeds
        self.fraction_before = 0.0
        self.closing = False
        self.status_at_end = "finished"
        self.under_way = 0  # steps that are not in the records yet
        self.shown = 0.0  # when the watcher was called last
        self.lock = threading.Lock()
        self.timings: dict[str, float] = {}

    def restore(self) -> None:
        """Goes on from the newest usable checkpoint; where there is none yet, from the beginning.

        Raises UprightError if there are some, and all are damaged.
        """
        folder = self.writer.path / "checkpoints"
        self.resumed, complaints = checkpoints.newest(folder, self.driver.template())
        if complaints:
            self.writer.warn(f"{'; '.join(complaints)}; an older checkpoint is used")
        if self.resumed is None:
            if any((self.writer.path / "policies").glob("*")):
                raise UprightError(f"{self.writer.path}: has no checkpoint to go on from")
            self.writer.rewind({})  # it was killed before its first one
            return
        try:
            self.restore_records(self.resumed)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, UprightError):
                raise
            raise UprightError(f"{folder}: does not fit run.json; it was changed") from None

    def restore_records(self, checkpoint: Checkpoint) -> None:
        """The books as they were at the checkpoint."""
        header = checkpoint.header
        if header["seeds"] != list(self.config.seeds):
            raise UprightError(
                f"{self.writer.path / 'checkpoints'}: of other seeds than run.json says; it was"
                " changed"
            )
        if header["settings"] != self.config.settings():
            raise UprightError(
                f"{self.writer.path / 'run.json'}: other settings than those of its checkpoint; it"
                " was changed"
            )
        self.writer.rewind(header["csv"])
        for fields in header["records"]:
            record = self.records[fields["seed"]]
            for name in ("state", "steps", "episodes", "written"):
                setattr(record, name, fields[name])
            record.returns.extend(fields["returns"])
            record.waiting = [checkpoint.arrays[record.seed]["waiting"]]
            record.kept = self.restore_policy(record, "kept")
            record.last = self.restore_policy(record, "last")
        self.save_best()
        self.steps_before = self.steps
        self.fraction_before = self.fraction

    def learn(self) -> None:
        """Trains until every seed has used up its budget, has diverged or was interrupted."""
        self.watch(Status("compiling", 0.0))
        begin = time.monotonic()
        states = self.resumed.states if self.resumed else None
        crews = self.driver.crews(self.config.seeds, states, self.pulse)
        with Fleet(crews, inline=self.driver.inline) as fleet:
            self.note_strays(crews)
            self.started = time.monotonic()
            if not self.resumed:
                self.save_checkpoint(fleet)
            while running := [r for r in self.records.values() if self.plan(r)]:
                every = self.config.checkpoint_every
                self.leg_end = (min(r.steps for r in running) // every + 1) * every
                for result in fleet.run(self.next_order, self.turn):
                    self.take(result)
                    self.pulse(0)
                self.save_checkpoint(fleet)
            self.close(fleet)
            self.watch(self.status())
        self.timings["compile_s"] = round(self.started - begin, 3)
        self.timings["training_s"] = round(time.monotonic() - self.started, 3)
        self.finish()

    def pulse(self, steps: int) -> bool:
        """Shows how far it is, now and then; True: Ctrl-C was heard. From any thread.

        `steps`: were taken by somebody, and are not in the records yet.
        """
        with self.lock:
            self.under_way += steps
            status = None
            if self.started and time.monotonic() - self.shown >= _WATCH_SECONDS:
                self.shown = time.monotonic()
                status = self.status()
        if status:
            self.watch(status)
        return self.interrupt.requested

    def plan(self, record: SeedRecord) -> Order | None:
        """What a seed does next: on to its next row. None: nothing, it has ended."""
        episodes = self.config.episodes or NO_LIMIT
        if record.state != "running" or self.interrupt.requested:
            return None
        if record.last is None:
            return Order(0, episodes, evaluate=True)
        row = self.next_row(record.written)
        if record.steps == row:  # its evaluation failed, or was interrupted
            return Order(0, episodes, evaluate=self.due(row))
        end = min(row, self.config.steps or row)
        if record.steps == end or record.episodes >= episodes:
            return None
        return Order(end - record.steps, episodes, evaluate=self.due(end))

    def next_order(self, seed: int) -> Order | None:
        """As planned, but not beyond the next checkpoint."""
        record = self.records[seed]
        order, left = self.plan(record), self.leg_end - record.steps
        if order is None or order.steps <= left:
            return order
        return replace(order, steps=left, evaluate=False) if left > 0 else None

    def due(self, step: int) -> bool:
        """An evaluation, at this step."""
        return step % self.config.evaluate_every == 0

    def next_row(self, written: int) -> int:
        """The step of the row after the one at step `written`."""
        every = (CHUNK, self.config.evaluate_every)
        return min((written // steps + 1) * steps for steps in every)

    def turn(self, seed: int) -> tuple[bool, int, int]:
        """Whose results come first: whoever is behind; so rows are always in the same order."""
        record = self.records[seed]
        return record.last is not None, record.written, self.config.seeds.index(seed)

    def take(self, result: Result) -> None:
        """Notes what a seed did; writes it down if it has come to a row."""
        record, log = self.records[result.seed], Step(*result.log.T)
        ended = np.flatnonzero(log.ended)
        record.waiting.append(result.log)
        with self.lock:
            record.steps += len(result.log)
            self.under_way -= len(result.log)
        record.episodes += len(ended)
        record.returns.extend(log.episode_return[ended].tolist())
        if result.error:
            record.state, record.error = "failed", result.error
        elif self.interrupt.requested and not self.closing:
            pass  # somebody before it may have been cut: whoever comes to its row then, waits
        elif not result.healthy:
            self.write_rows(record)
            self.end(record, "diverged")
        elif result.returns is not None:
            self.write_rows(record)
            self.keep(record, result)
        elif record.steps == self.next_row(record.written) and not self.due(record.steps):
            self.write_rows(record)

    def write_rows(self, record: SeedRecord) -> None:
        """What has waited goes into the CSV files."""
        log = Step(*np.concatenate([_NO_ROWS, *record.waiting]).T)
        record.waiting = []
        self.log_episodes(record, log)
        self.log_learning(record, log)
        record.written = record.steps

    def close(self, fleet: Fleet) -> None:
        """The books as they are at the end, whether of the budget or by Ctrl-C."""
        self.closing = True
        for record in self.records.values():
            self.write_rows(record)

        due = {r.seed for r in self.records.values() if r.state == "running" and not r.evaluated}

        def closing_order(seed: int) -> Order | None:
            if seed not in due:
                return None
            due.remove(seed)  # asked once: Ctrl-C may cut an evaluation, too
            return Order(0, NO_LIMIT, evaluate=True)

        for result in fleet.run(closing_order, self.turn):
            self.take(result)
        for record in self.records.values():
            if record.state == "running":
                self.end(record, "finished" if self.done(record) == 1 else "interrupted")

    def end(
        self, record: SeedRecord, state: Literal["finished", "interrupted", "diverged"]
    ) -> None:
        """A seed goes no further: its last policy is written."""
        record.state = state
        if record.last:
            record.last.save(policy_path(self.writer.path, record.seed, last=True))

    def save_checkpoint(self, fleet: Fleet) -> None:
        """Everything at this moment; while all seeds rest."""
        records = self.records.values()
        header = {
            "seeds": list(self.config.seeds),
            "settings": self.config.settings(),
            "csv": self.writer.sizes(),
            "records": [
                {
                    "seed": record.seed,
                    # Whoever failed tries again after a resume.
                    "state": "diverged" if record.state == "diverged" else "running",
                    "steps": record.steps,
                    "episodes": record.episodes,
                    "written": record.written,
                    "returns": list(record.returns),
                }
                for record in records
            ],
        }
        arrays: dict[int, checkpoints.Arrays] = {}
        for record in records:
            arrays[record.seed] = {"waiting": np.concatenate([_NO_ROWS, *record.waiting])}
            for name, policy in (("kept", record.kept), ("last", record.last)):
                if policy:
                    content = np.frombuffer(policy.to_bytes(), np.uint8)
                    arrays[record.seed][name] = content
        checkpoint = Checkpoint(fleet.states(), arrays, header)
        checkpoints.save(self.writer.path / "checkpoints", self.steps, checkpoint)

    def restore_policy(self, record: SeedRecord, name: Literal["kept", "last"]) -> Policy | None:
        """The policy, and its file as it was."""
        assert self.resumed
        path = policy_path(self.writer.path, record.seed, last=name == "last")
        path.unlink(missing_ok=True)
        content = self.resumed.arrays[record.seed].get(name)
        if content is None:
            return None
        policy = Policy.from_bytes(content.tobytes())
        if name == "kept" or record.state == "diverged":
            policy.save(path)
        return policy

    def save_best(self) -> None:
        best = max(self.records.values(), key=SeedRecord.rank).kept
        if best:
            best.save(self.writer.path / "policies" / "best.safetensors")

    def note_strays(self, crews: Sequence[Crew]) -> None:
        """An environment that does not do the same again is worth one warning."""
        strays = [seed for crew in crews for seed in crew.strays]
        if strays:
            self.writer.warn(
                f"{self.config.task} is not deterministic: after the resume the present episode of"
                f" {len(strays)} of {len(self.records)} seeds could not be played again"
                f" ({', '.join(map(str, strays[:10]))}); a new one began"
            )
            self.writer.save_info()

    def log_episodes(self, record: SeedRecord, log: Step) -> None:
        """A row for each episode that ended."""
        ends = np.flatnonzero(log.ended)
        for episode, end in enumerate(ends, start=record.episodes - len(ends) + 1):
            step, total = record.written + end + 1, f"{log.episode_return[end]:g}"
            length, terminated = int(log.episode_length[end]), int(log.terminated[end])
            row = (record.seed, episode, step, total, length, terminated)
            self.writer.append("episodes", [row])

    def log_learning(self, record: SeedRecord, log: Step) -> None:
        """A row of averages, once the seed learns."""
        agent = self.config.agent
        learned = slice(max(0, agent.warmup_steps - record.written), None)
        if len(log.loss[learned]):
            steps = np.int32(record.steps)
            means = log.loss[learned].mean(), log.q_mean[learned].mean()
            values = (*means, float(agent.epsilon(steps)), float(agent.rate(steps)))
            row = (record.seed, steps, *(f"{value:.6g}" for value in values))
            self.writer.append("learning", [row])

    def keep(self, record: SeedRecord, result: Result) -> None:
        """Notes an evaluation, and keeps the policy if none was better."""
        assert result.returns is not None
        returns = result.returns.astype(np.float64)
        mean, low, high = (float(f(returns)) for f in (np.mean, np.min, np.max))
        score = Score(mean, low, high, len(returns))
        provenance = Provenance("DQN", record.seed, record.steps, score)
        record.last = self.config.agent.to_policy(result.agent, self.spec, provenance)
        kept = mean >= record.kept_return
        if kept:
            record.kept = record.last
            record.kept.save(policy_path(self.writer.path, record.seed))
            if max(self.records.values(), key=SeedRecord.rank) is record:
                self.save_best()
        values = (f"{value:g}" for value in (mean, low, high))
        row = (record.seed, record.steps, record.episodes, *values, int(kept))
        self.writer.append("evaluations", [row])

    def finish(self) -> None:
        """Writes down how the seeds ended."""
        rate = (self.steps - self.steps_before) / max(self.timings["training_s"], 1e-3)
        self.timings["steps"] = self.steps - self.steps_before
        self.timings["steps_per_second"] = round(rate, 1)
        states = [record.state for record in self.records.values()]
        # Not "finished" before it is judged: who is killed until then can go on.
        self.status_at_end = next((s for s in ("failed", "interrupted") if s in states), "finished")
        self.writer.save_info(
            results=[record.summary() for record in self.records.values()],
            timings=self.timings,
        )

    def judge(self) -> None:
        """Greedy episodes of every kept policy in Gymnasium, until interrupted."""
        begin = time.monotonic()
        results = self.writer.info["results"]
        for done, (result, record) in enumerate(zip(results, self.records.values(), strict=True)):
            if self.interrupt.requested:
                break
            if record.kept is None:
                continue
            try:
                judgement = evaluate(
                    record.kept,
                    task=self.config.task,
                    episodes=JUDGEMENT_EPISODES,
                    seed=JUDGEMENT_SEED,
                    stop=partial(self.judging, done / len(results)),
                )
            except Stopped:
                continue  # the loop sees why
            except UprightError as error:
                result["error"] = f"while it was judged, {error}"
                self.status_at_end = "failed"
            else:
                result["judgement"] = judgement.summary()
            self.writer.save_info()
        if self.interrupt.requested:
            self.status_at_end = "interrupted"
        self.timings["judgement_s"] = round(time.monotonic() - begin, 3)
        self.writer.save_info(status=self.status_at_end)

    def judging(self, fraction: float) -> bool:
        if time.monotonic() - self.shown >= _WATCH_SECONDS:
            self.shown = time.monotonic()
            self.watch(Status("judging", fraction))
        return self.interrupt.requested

    @property
    def steps(self) -> int:
        return sum(record.steps for record in self.records.values())

    def status(self) -> Status:
        """Over all seeds, at this moment."""
        records = list(self.records.values())
        elapsed = max(time.monotonic() - self.started, 1e-3)
        steps, fraction = self.steps + self.under_way, self.fraction
        done = fraction - self.fraction_before
        returns = [np.mean(list(record.returns)) for record in records if record.returns]
        threshold = self.spec.solved_return
        return Status(
            phase="stopping" if self.interrupt.requested else "training",
            fraction=fraction,
            steps=steps,
            steps_per_second=(steps - self.steps_before) / elapsed,
            seconds_left=elapsed * (1 - fraction) / done if done > 0 else None,
            median_return=float(np.median(returns)) if returns else None,
            worst_return=float(np.min(returns)) if returns else None,
            threshold=threshold,
            solved=sum(threshold is not None and r.kept_return >= threshold for r in records),
            seeds=len(records),
        )

    @property
    def fraction(self) -> float:
        """Of the budgets of all seeds that is used up."""
        fraction = float(np.mean([self.done(record) for record in self.records.values()]))
        if self.config.steps:
            fraction += self.under_way / (self.config.steps * len(self.records))
        return fraction

    def done(self, record: SeedRecord) -> float:
        """Share of a seed's budget that is used up; of a seed that has ended all of it."""
        if record.state != "running":
            return 1.0
        if self.config.steps:
            return record.steps / self.config.steps
        return record.episodes / (self.config.episodes or NO_LIMIT)
