"""Many seeds under way: the loop of a training, and the evaluation after it."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import jax

from upright.errors import UprightWarning
from upright.runners.runner import Runner, SeedGroup, Segment, SegmentResult, judge_all
from upright.runs import provenance
from upright.runs.folder import FinalEvaluation, Stint, name_seeds
from upright.runs.writer import RunWriter
from upright.training.config import Config
from upright.training.interrupt import Interrupt
from upright.training.pool import Pool
from upright.training.progress import Progress, Status, Watch
from upright.training.seed_run import SeedRun


class Trainer:
    """Trains until every seed has used up its budget, has diverged, failed or was interrupted."""

    def __init__(
        self,
        config: Config,
        runner: Runner,
        run: RunWriter,
        seeds: Sequence[SeedRun],
        interrupt: Interrupt,
        watch: Watch,
    ):
        self.config = config
        self.runner = runner
        self.run = run
        self.seeds = {seed.seed: seed for seed in seeds}
        self.interrupt = interrupt
        self.watch = watch
        self.progress = Progress(seeds, runner.spec.solved_return, watch, self.cancelled)

    def train(self, states: Mapping[int, Any]) -> None:
        """Learns, and then evaluates what was kept; seeds that have a state go on from it."""
        self.watch(Status("compiling", 0.0))
        self.begin_stint()
        began = datetime.now(UTC)
        for seed in self.seeds.values():
            if seed.state != "running":
                seed.next_segment(cancelled=True)  # it had diverged: all that is left is its end
        going = tuple(seed for seed, run in self.seeds.items() if run.state == "running")
        groups = self.runner.start(going, states, self.progress) if going else []
        compile_seconds = (datetime.now(UTC) - began).total_seconds()
        with Pool(groups, self.runner.inline) as pool:
            self.note_irreproducible(groups)
            self.progress.start()
            for result in pool.run(self.next_segment):
                seed = self.seeds[result.seed]
                with self.progress.counting(result.log.ended.size):
                    seed.count(result.log)
                seed.on_result(result)
                self.progress.stepped(0)
            self.progress.stop()
            self.end_stint(compile_seconds)
            self.run.refresh_best()
            self.judge(pool, self.seeds.keys() - going)

    def cancelled(self) -> bool:
        """Ctrl-C was heard."""
        return self.interrupt.requested

    def next_segment(self, seed: int) -> Segment | None:
        """What a seed does next; None: it has ended."""
        return self.seeds[seed].next_segment(self.cancelled())

    def judge(self, pool: Pool, alone: Iterable[int]) -> None:
        """The final evaluation of every kept policy, until interrupted; the seeds' ends.

        `alone`: seeds that are in no group.
        """
        left = {seed: Segment(0, judge=run.kept) for seed, run in self.seeds.items() if run.kept}
        per_policy = self.config.final_episodes * (2 if self.config.randomise else 1)
        self.progress.start_judging(len(left) * per_policy)

        def next_judgement(seed: int) -> Segment | None:
            return None if self.cancelled() else left.pop(seed, None)

        unsaved = set(self.seeds)
        for result in pool.run(next_judgement):
            self.end(result)
            unsaved.remove(result.seed)
        for seed in alone:
            if segment := next_judgement(seed):
                judge = self.runner.judge
                self.end(*judge_all(judge, {seed: segment}, None, self.progress))
                unsaved.remove(seed)
        # Each but once: nobody comes again to clear up what a kill leaves of a second writing.
        for seed in sorted(unsaved):
            self._save(self.seeds[seed])

    def end(self, result: SegmentResult) -> None:
        """What the final evaluation of a seed has shown."""
        run = self.seeds[result.seed]
        run.judged = [FinalEvaluation(**judged.summary()) for judged in result.judged]
        if result.error:
            run.state, run.error = "failed", result.error
        self._save(run)

    def _save(self, run: SeedRun) -> None:
        """At its end, of which the final evaluation is a part."""
        if run.kept and run.state in ("finished", "diverged") and not run.judged:
            run.state = "interrupted"
        run.save()

    def begin_stint(self) -> None:
        """Who trains these seeds from here on, on what."""
        platform = provenance.describe_platform(jax.devices()[0].device_kind)
        started = datetime.now(UTC).isoformat(timespec="milliseconds")
        for seed in self.seeds.values():
            stint = Stint(started, provenance.command(), platform, at_step=seed.steps)
            stints = (*seed.writer.info.stints, stint)
            seed.writer.save_info(stints=stints)

    def end_stint(self, compile_seconds: float) -> None:
        """How much was done in which time; in seed.json from its next writing on."""
        for seed in self.seeds.values():
            *before, stint = seed.writer.info.stints
            stint = replace(
                stint,
                steps=self.progress.new_steps,
                compile_seconds=round(compile_seconds, 3),
                training_seconds=round(self.progress.seconds, 3),
            )
            seed.writer.info = replace(seed.writer.info, stints=(*before, stint))

    def note_irreproducible(self, groups: Sequence[SeedGroup]) -> None:
        """An environment that does not do the same again is worth one warning."""
        seeds = [seed for group in groups for seed in group.irreproducible]
        if not seeds:
            return
        text = (
            f"{self.config.task} is not deterministic: the episode that was under way could not be"
            f" played again ({name_seeds(seeds)}); a new one began"
        )
        warnings.warn(text, UprightWarning, stacklevel=2)
        for seed in seeds:
            self.seeds[seed].writer.warn(text)
