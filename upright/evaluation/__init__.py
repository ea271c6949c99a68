"""A policy and a task make returns; returns of many seeds make statistics."""
