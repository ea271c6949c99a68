"""Tasks: a plant, and what is asked of it."""
