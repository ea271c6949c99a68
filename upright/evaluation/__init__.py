"""A policy and a task make returns; returns of many seeds make statistics."""

# Of an episode whose task has no time limit: a good policy would never end it.
MOST_STEPS = 1_000
