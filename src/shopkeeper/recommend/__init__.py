"""Retrieve -> rank -> rerank: pure functions of scores and of what can be sold now."""
