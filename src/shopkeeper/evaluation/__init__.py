"""How good a model is: splits, metrics, the leaderboard, its plots, and replay of logged answers."""
