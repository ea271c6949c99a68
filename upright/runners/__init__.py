"""Environments and an agent brought together, for many seeds; no algorithm is known here."""
