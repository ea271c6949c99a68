"""The seed axis of the compiled runner.

On a CPU each seed is a group of its own, and all run the same compiled program, so that the bits of
a seed cannot depend on which others run, nor on how many cores there are; JAX releases Python's
lock while it computes. On an accelerator all seeds are one group and one program, by vmap.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from upright.evaluation.players import Observer
from upright.finding import Finding
from upright.runners import jit
from upright.runners.compiled import Carry, Compiled
from upright.runners.runner import (
    Judge,
    SeedGroup,
    Segment,
    SegmentResult,
    States,
    StepLog,
    judge_all,
)
from upright.spec import Spec


@dataclass(frozen=True)
class CompiledRunner:
    """Environment, memory, learning and acting in one compiled loop: for native tasks."""

    compiled: Compiled
    judge: Judge
    vectorise: bool | None = None  # all seeds in one program; None: on an accelerator
    inline: bool = False
    noticed: tuple[Finding, ...] = ()

    @property
    def spec(self) -> Spec:
        """What the task looks like from outside."""
        return self.compiled.task.spec

    def start(
        self,
        seeds: Sequence[int],
        states: States,
        observer: Observer | None = None,
    ) -> list[SeedGroup]:
        """A segment takes a tenth of a second, so no steps of it need to be cancelled."""
        vectorise = self.vectorise
        if vectorise is None:
            vectorise = jax.default_backend() != "cpu"
        groups = [tuple(seeds)] if vectorise else [(seed,) for seed in seeds]
        programs = _compile(
            self.compiled, len(groups[0]), jax.vmap if vectorise else _over_one_seed
        )
        return [
            CompiledGroup(self, programs, group, states, observer or Observer()) for group in groups
        ]

    def template(self) -> Carry:
        """What the state of one seed looks like, see `Runner.template`."""
        compiled = self.compiled

        def like() -> Carry:
            carry = compiled.init(jax.random.key(0))
            return carry._replace(key=jax.random.key_data(carry.key))

        carry: Carry = jax.tree.map(
            lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(like)
        )
        return carry._replace(memory=compiled.memory.stored(carry.memory))

    def check(self, state: Carry) -> None:
        """As `Runner.check`."""
        self.compiled.memory.check(state.memory, int(state.steps))


class _Programs(NamedTuple):
    """Compiled once for all seeds and segments."""

    init: Callable[..., Any]
    advance: Callable[..., Any]
    evaluate: Callable[..., Any]


class CompiledGroup:
    """One seed, or all of them on an accelerator."""

    def __init__(
        self,
        runner: CompiledRunner,
        programs: _Programs,
        seeds: tuple[int, ...],
        states: States,
        observer: Observer,
    ):
        self.seeds = seeds
        self.irreproducible: list[int] = []  # a native task always does the same again
        self._compiled = runner.compiled
        self._judge = runner.judge
        self._programs = programs
        self._carry: Carry | None = None
        self._states = states  # to begin from, until `_begin`
        self._observer = observer

    def run(self, segments: Mapping[int, Segment]) -> list[SegmentResult]:
        """As `SeedGroup.run`."""
        if judged := judge_all(self._judge, segments, None, self._observer):
            return judged
        carry = self._begin() if self._carry is None else self._carry
        steps = [segments[seed].steps if seed in segments else 0 for seed in self.seeds]
        environments = self._compiled.environments
        width = StepLog.width(environments, len(self._compiled.agent.Metrics._fields))
        rows, taken = np.zeros((len(self.seeds), 0, width)), np.zeros(len(self.seeds), int)
        if any(steps):
            episodes = max(segment.episodes for segment in segments.values())
            carry, ticks, log = self._programs.advance(
                carry, np.array(steps, np.int32), np.int32(episodes)
            )
            rows, taken = np.asarray(log), np.asarray(ticks)
        self._carry = carry
        finite = np.array(carry.finite)
        returns, finite_params = np.zeros(0), np.zeros(0)
        if any(segment.evaluate for segment in segments.values()):
            answer = self._programs.evaluate(carry.agent)
            returns, lengths, finite_params = map(np.asarray, answer)
            self._observer.evaluated(int(lengths.sum()), lengths.size)
        self._observer.stepped(int(taken.sum()) * environments)
        results: list[SegmentResult] = []
        for i, (seed, asked) in enumerate(zip(self.seeds, steps, strict=True)):
            if seed not in segments:
                continue
            # Else the budget of episodes ended the segment, or a metric.
            whole = taken[i] * environments == asked
            evaluated = segments[seed].evaluate and whole
            error = None
            if evaluated and finite_params[i] and not np.isfinite(returns[i]).all():
                error = "while it was evaluated, a reward or observation of the task is not finite"
                evaluated = False
            results.append(
                SegmentResult(
                    seed=seed,
                    log=StepLog.unpack(rows[i, : taken[i]], environments),
                    finite=bool(finite[i] and (not evaluated or finite_params[i])),
                    policy=self._policy(carry, i) if evaluated else None,
                    returns=returns[i] if evaluated else None,
                    error=error,
                    state=self._state(carry, i) if segments[seed].save else None,
                )
            )
        return results

    def close(self) -> None:
        """There is nothing to close."""

    def _begin(self) -> Carry:
        fresh = self._programs.init(np.array(self.seeds, np.uint32))
        # Where JAX was used before us it computes in another thread, and if the memory does not
        # suffice there, NumPy would wait for ever.
        carry: Carry = jax.block_until_ready(fresh)
        if not any(seed in self._states for seed in self.seeds):
            return carry
        carries = [
            self._restored(self._states[seed])
            if seed in self._states
            else jax.tree.map(operator.itemgetter(i), carry)
            for i, seed in enumerate(self.seeds)
        ]
        self._states = {}
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *carries)

    def _restored(self, state: Carry) -> Carry:
        memory = self._compiled.memory.restored(state.memory)
        return state._replace(key=jax.random.wrap_key_data(state.key), memory=memory)

    def _state(self, carry: Carry, place: int) -> Carry:
        one: Carry = jax.tree.map(
            operator.itemgetter(place), carry._replace(key=jax.random.key_data(carry.key))
        )
        memory = self._compiled.memory.stored(one.memory)
        # Copies, since the carry is donated to the next call.
        return jax.tree.map(np.array, one._replace(memory=()))._replace(memory=memory)

    def _policy(self, carry: Carry, place: int) -> Any:
        agent = jax.tree.map(operator.itemgetter(place), carry.agent)
        return self._compiled.agent.to_policy(agent, self._compiled.task.spec)


def _compile(compiled: Compiled, seeds: int, over_seeds: Callable[..., Any]) -> _Programs:
    """The programs for so many seeds in one."""
    some = jax.ShapeDtypeStruct((seeds,), jnp.uint32)
    counts, count = (jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((seeds,), ()))
    init = over_seeds(lambda seed: compiled.init(jax.random.key(seed)))
    carry = jax.eval_shape(init, some)
    advance = over_seeds(compiled.advance, (0, 0, None))
    lowered = [
        jax.jit(init).lower(some),
        jax.jit(advance, donate_argnums=0).lower(carry, counts, count),
        jax.jit(over_seeds(compiled.evaluate)).lower(carry.agent),
    ]
    return _Programs(*jit.compile_all(lowered))


def _over_one_seed(function: Callable[..., Any], in_axes: Any = 0) -> Callable[..., Any]:
    """As vmap, for an axis of size 1, without the batched operations that vmap would make of it."""

    def over_one_seed(*arguments: Any) -> Any:
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(arguments)
        single = (
            argument if axis is None else jax.tree.map(lambda x: x[0], argument)
            for argument, axis in zip(arguments, axes, strict=True)
        )
        return jax.tree.map(lambda x: x[None], function(*single))

    return over_one_seed
