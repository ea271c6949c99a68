"""One file per algorithm: pure functions of one seed, without environment, clock, files or jit."""
