"""How JAX compiles: programs are kept, and results do not depend on the number of cores."""

import os
from pathlib import Path
from typing import Any

import jax


def prepare() -> None:
    """Before the first computation."""
    # A call that is handed to another thread and waited for costs more than a small network.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    _keep_programs()


def _keep_programs() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX was told of another place."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "upright" / "jax"
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError:
            return  # a user without a home compiles each time
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def compiler_options() -> dict[str, Any]:
    """For programs of which each runs on one core while other seeds fill the others."""
    if jax.default_backend() != "cpu":
        return {}
    return {
        # An operation of a small network is shorter than handing it to another thread: one after
        # the other a seed alone is a quarter faster, and many seeds are not slower.
        "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
        # A matrix product that is split over threads adds in another order on another number of
        # cores: the bits of a seed would depend on the machine.
        "xla_cpu_multi_thread_eigen": False,
    }
