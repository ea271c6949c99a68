"""How JAX compiles: programs are kept, and results do not depend on the number of cores."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
from platformdirs import user_cache_path

_LARGEST_CACHE = 1 << 30  # bytes; beyond it the programs go that were not used for longest


def prepare() -> None:
    """Before the first computation. What the user has told JAX stays."""
    # A call that is handed to another thread and waited for costs more than a small network. JAX
    # decides that once, when it starts; after that the setting is as it was.
    asynchronous = jax.config.values["jax_cpu_enable_async_dispatch"]
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    jax.devices()
    jax.config.update("jax_cpu_enable_async_dispatch", asynchronous)
    if jax.config.values["jax_compilation_cache_dir"] is None:
        cache = user_cache_path("upright") / "programs"
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError:
            return  # a user without a home compiles each time
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_compilation_cache_max_size", _LARGEST_CACHE)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def compile_all(lowered: Sequence[Any]) -> list[Any]:
    """The programs, compiled at the same time; for one core each, while others fill the rest."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_compile, lowered))


# An operation of a small network is shorter than handing it to another thread: one after the other
# a seed alone is a quarter faster, and many seeds are not slower. And a matrix product that is
# split over threads adds in another order on another number of cores: the bits of a seed would
# depend on the machine.
_CPU_OPTIONS: dict[str, Any] = {
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
    "xla_cpu_multi_thread_eigen": False,
}


def _compile(lowered: Any) -> Any:
    if jax.default_backend() != "cpu":
        return lowered.compile()
    try:
        return lowered.compile(_CPU_OPTIONS)
    except jax.errors.JaxRuntimeError as error:
        # They are no promise of XLA: without them it is slower, and nothing else.
        if "option" not in str(error).lower():
            raise
        return lowered.compile()
