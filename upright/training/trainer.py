"""Many seeds under way: the loop of a training, and the evaluation after it."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import jax

from upright.errors import UprightError, UprightWarning
from upright.evaluation.episodes import Stopped, evaluate
from upright.runners.runner import Runner, SeedGroup, Segment
from upright.runs import provenance
from upright.runs.folder import FinalEvaluation, Stint, name_seeds
from upright.runs.writer import RunWriter
from upright.training.config import Config
from upright.training.interrupt import Interrupt
from upright.training.pool import Pool
from upright.training.progress import Progress, Status, Watch
from upright.training.seed_run import SeedRun

FINAL_EPISODES = 100  # of each kept policy, in Gymnasium, after the training
FINAL_SEED = 2026  # apart from the start states by which training keeps its best


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
        groups = (
            self.runner.start(going, states, self.progress.add, self.cancelled) if going else []
        )
        compile_seconds = (datetime.now(UTC) - began).total_seconds()
        with Pool(groups, self.runner.inline) as pool:
            self.note_irreproducible(groups)
            self.progress.start()
            for result in pool.run(self.next_segment):
                seed = self.seeds[result.seed]
                with self.progress.counting(result.log.ended.size):
                    seed.count(result.log)
                seed.on_result(result)
                self.progress.add(0)
            self.progress.stop()
        self.end_stint(compile_seconds)
        self.run.refresh_best()
        self.final_evaluation()

    def cancelled(self) -> bool:
        """Ctrl-C was heard."""
        return self.interrupt.requested

    def next_segment(self, seed: int) -> Segment | None:
        """What a seed does next; None: it has ended."""
        return self.seeds[seed].next_segment(self.cancelled())

    def final_evaluation(self) -> None:
        """Greedy episodes of every kept policy in Gymnasium, until interrupted; the seeds' ends."""
        for done, seed in enumerate(self.seeds.values()):
            fraction = done / len(self.seeds)

            def stop(fraction: float = fraction) -> bool:
                self.progress.evaluating(fraction)
                return self.cancelled()

            final: list[FinalEvaluation] = []
            physics = (False, True) if self.config.randomise else (False,)  # nominal, randomised
            try:
                if seed.kept and not self.cancelled():
                    for randomised in physics:
                        evaluation = evaluate(
                            seed.kept,
                            task=self.config.task,
                            episodes=FINAL_EPISODES,
                            seed=FINAL_SEED,
                            randomised=randomised,
                            stop=stop,
                        )
                        final.append(FinalEvaluation(**evaluation.summary()))
            except Stopped:
                pass
            except UprightError as error:
                seed.state, seed.error = "failed", f"in the final evaluation, {error}"
            complete = len(final) == len(physics)
            if seed.kept and not complete and seed.state in ("finished", "diverged"):
                seed.state = "interrupted"
            seed.save(*final or [None])

    def begin_stint(self) -> None:
        """Who trains these seeds from here on, on what."""
        platform = provenance.describe_platform(jax.devices()[0].device_kind)
        started = datetime.now(UTC).isoformat(timespec="milliseconds")
        for seed in self.seeds.values():
            stint = Stint(started, provenance.command(), platform, at_step=seed.steps)
            stints = (*seed.writer.info.stints, stint)
            seed.writer.save_info(
                state="running",
                error=None,
                stints=stints,
                final_evaluation=None,
                randomised_evaluation=None,
            )

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
