"""Equations of motion xdot = f(x, u, p), in SI units where the source has them.

Parameters are what one can measure.
"""
