"""Batch policy."""
