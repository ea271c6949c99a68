"""Equations of motion xdot = f(x, u, p), in SI units; parameters are what one can measure."""
