"""Collect: what a shop has, as canonical rows of text with source, file and line; nothing dropped."""
