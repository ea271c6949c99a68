"""How JAX compiles: programs are kept, and results do not depend on the number of cores."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from upright.errors import UprightError, one_line
from upright.runners import program_cache

# What an agent computes depends on these; each with the values that it can have.
_NEEDED: dict[str, tuple[Any, ...]] = {
    "jax_enable_x64": (False,),
    "jax_disable_jit": (False,),
    "jax_default_prng_impl": ("threefry2x32",),
    "jax_threefry_partitionable": (True,),
    "jax_numpy_dtype_promotion": ("standard",),
    "jax_numpy_rank_promotion": ("allow", "warn"),
    **{
        f"jax_transfer_guard{which}": ("allow", "log", None)
        for which in ("", "_host_to_device", "_device_to_device", "_device_to_host")
    },
}


def prepare() -> None:
    """Before the first computation. What the user has told JAX stays.

    Without a cache of the user's own JAX has ours from then on, until the process ends.

    Raises UprightError where JAX cannot start, or was told to compute otherwise than agents do.
    """
    for name, values in _NEEDED.items():
        value = _value(name, values[0])
        if value not in values:
            raise UprightError(
                f"JAX's setting {name} is {value}; upright needs {values[0]}: unset the environment"
                f" variable {name.upper()}, or leave the setting alone in this process"
            )
    # A call that is handed to another thread and waited for costs more than a small network. JAX
    # decides that once, when it starts; after that the setting is as it was.
    asynchronous = jax.config.values["jax_cpu_enable_async_dispatch"]
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        names = ("jax_platforms", "jax_platform_name")
        told = [f"{name.upper()} is {value!r}" for name in names if (value := _value(name))]
        raise UprightError(
            f"JAX finds no device: {' and '.join(told)} ({one_line(error)}); unset it, or"
            " install that platform"
        ) from error
    finally:
        jax.config.update("jax_cpu_enable_async_dispatch", asynchronous)
    if jax.config.values["jax_compilation_cache_dir"] is None:
        _keep_programs()
    # A program that is not kept is compiled: that is slower, and nothing else.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")


def _value(name: str, default: Any = None) -> Any:
    return jax.config.values.get(name, default)


def _keep_programs() -> None:
    folder = program_cache.ready_folder()
    if folder is None:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", program_cache.LARGEST)
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
