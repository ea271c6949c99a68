"""The seed axis: an agent is written for one seed, and only this file knows that there are many.

On a CPU a thread for each core takes seed after seed, and all run the same compiled program, so
that the bits of a seed cannot depend on which others run, nor on how many cores there are; JAX
releases Python's lock while it computes. On an accelerator all seeds are one program, by vmap.
"""

import operator
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from upright.agents import dqn
from upright.errors import UprightError
from upright.training.engine import compiler_options
from upright.training.fused import Carry, Fused

_MOST_SEEDS = 100_000


def parse_seeds(text: str) -> tuple[int, ...]:
    """ "20" is 0 to 19, "1000:1020" is 1000 to 1019, "3,5,8" (or "3,") is just these."""
    expected = "expected a number of seeds (20), a range (1000:1020) or a list (3,5,8)"
    try:
        if ":" in text:
            first, end = map(int, text.split(":"))
            seeds = range(first, end)
        elif "," in text:
            seeds = [int(part) for part in text.removesuffix(",").split(",")]
        else:
            seeds = range(int(text))
            if not seeds:
                raise ValueError
        count = len(seeds)
    except (ValueError, OverflowError):
        raise UprightError(f"seeds {text!r}: {expected}") from None
    if count > _MOST_SEEDS:
        raise UprightError(f"{count} seeds; at most {_MOST_SEEDS} fit into one run")
    return check_seeds(seeds)


def check_seeds(seeds: Iterable[Any]) -> tuple[int, ...]:
    """Raises UprightError unless these are some different whole numbers from 0 to 2^32 - 1."""
    checked = tuple(_whole(seed) for seed in seeds)
    if not checked:
        raise UprightError("no seeds; there must be at least one")
    for seed, count in Counter(checked).items():
        if not 0 <= seed < 2**32:
            raise UprightError(f"seed {seed}; a seed must be at least 0 and below 2^32")
        if count > 1:
            raise UprightError(f"seed {seed} is given more than once")
    return checked


def _whole(seed: Any) -> int:
    try:
        return operator.index(seed)
    except TypeError:
        raise UprightError(f"seed {seed!r} is not a whole number") from None


@dataclass(frozen=True)
class Order:
    """What one seed shall do next."""

    steps: int  # at most; 0: none
    episodes: int  # stop when so many are finished in all
    evaluate: bool  # afterwards


@dataclass(frozen=True)
class Result:
    """What one seed did."""

    seed: int
    log: NDArray[np.float32]  # [steps taken, columns of fused.Step]
    healthy: bool  # False: the last step's loss, or a parameter after it, is not finite
    agent: dqn.State  # NumPy arrays of its own
    returns: NDArray[np.float32] | None  # [evaluation episode], if ordered


class Fleet:
    """Many seeds under way. A context: its threads end with it."""

    def __init__(self, driver: Fused, seeds: Sequence[int], vectorise: bool | None = None):
        """`vectorise`: all seeds in one program; by default on an accelerator, not on a CPU."""
        if vectorise is None:
            vectorise = jax.default_backend() != "cpu"
        self._groups = [tuple(seeds)] if vectorise else [(seed,) for seed in seeds]
        self._over_seeds = jax.vmap if vectorise else _over_one_seed
        self._pool = ThreadPoolExecutor(1 if vectorise else _cores())
        self._programs = self._compile(driver)
        self._carries: dict[tuple[int, ...], Carry] = {}

    def run(self, next_order: Callable[[int], Order | None]) -> Iterator[Result]:
        """Yields what the seeds did, round after round, always in the order of the seeds.

        `next_order(seed)` is asked after the results of the seed's last order were taken; None ends
        the seed, which then costs nothing more. The seeds of a vectorised group go on together, so
        their orders for steps must be the same, or 0 for a seed whose episodes are finished.
        """
        queue = deque(self._groups)
        futures = {group: self._submit(group, next_order) for group in queue}
        while queue:
            group = queue.popleft()
            future = futures[group]
            if future is not None:
                yield from future.result()
                futures[group] = self._submit(group, next_order)
                queue.append(group)

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _submit(
        self, group: tuple[int, ...], next_order: Callable[[int], Order | None]
    ) -> Future[list[Result]] | None:
        orders = {seed: order for seed in group if (order := next_order(seed))}
        return self._pool.submit(self._work, group, orders) if orders else None

    def _work(self, group: tuple[int, ...], orders: dict[int, Order]) -> list[Result]:
        """In a thread of the pool: the orders of one group of seeds."""
        init, advance, evaluate = self._programs
        if group not in self._carries:
            self._carries[group] = init(np.array(group, np.uint32))
        steps = max(order.steps for order in orders.values())
        episodes = max(order.episodes for order in orders.values())
        carry, taken, log = advance(self._carries[group], np.int32(steps), np.int32(episodes))
        due = any(order.evaluate for order in orders.values())
        returns = np.asarray(evaluate(carry.agent)) if due else None
        self._carries[group] = carry
        # Copies, since the carry is donated to the next chunk.
        agent = jax.tree.map(np.array, carry.agent)
        log, taken, healthy = np.asarray(log), np.asarray(taken), np.asarray(carry.healthy)
        return [
            Result(
                seed=seed,
                log=log[i, : taken[i]],
                healthy=bool(healthy[i]),
                agent=jax.tree.map(operator.itemgetter(i), agent),
                returns=returns[i] if returns is not None and orders[seed].evaluate else None,
            )
            for i, seed in enumerate(group)
            if seed in orders
        ]

    def _compile(self, driver: Fused) -> list[Callable[..., Any]]:
        """The three programs, each compiled once for all seeds and chunks, at the same time."""
        seeds = jax.ShapeDtypeStruct((len(self._groups[0]),), jnp.uint32)
        count = jax.ShapeDtypeStruct((), jnp.int32)
        init = self._over_seeds(lambda seed: driver.init(jax.random.key(seed)))
        carry = jax.eval_shape(init, seeds)
        advance = self._over_seeds(driver.advance, (0, None, None))
        evaluate = self._over_seeds(driver.evaluate)
        lowered = [
            jax.jit(advance, donate_argnums=0).lower(carry, count, count),
            jax.jit(evaluate).lower(carry.agent),
            jax.jit(init).lower(seeds),
        ]
        with ThreadPoolExecutor() as pool:
            compiled = pool.map(lambda program: program.compile(compiler_options()), lowered)
            advance, evaluate, init = compiled
        return [init, advance, evaluate]


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


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
