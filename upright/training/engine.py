"""How JAX is started: compiled programs are kept, and results do not depend on the machine's cores."""

import os
from pathlib import Path

import jax


def start() -> None:
    """Idempotent; what the user has set in the environment is left alone."""
    flag = "--xla_cpu_multi_thread_eigen"
    flags = os.environ.get("XLA_FLAGS", "")
    if flag not in flags:
        # The seeds fill the cores. A matrix product split over threads adds in another order on
        # another number of cores, and would make the bits of a seed depend on the machine.
        os.environ["XLA_FLAGS"] = f"{flags} {flag}=false".strip()
    if jax.config.jax_compilation_cache_dir is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "upright" / "jax"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
