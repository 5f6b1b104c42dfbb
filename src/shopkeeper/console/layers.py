"""The layers of assets, in the order of the loop."""

LAYERS = ("raw", "unread", "repairs", "clean", "quarantine", "quality", "features", "models", "evaluations", "indexes", "reports", "releases")  # fmt: skip


def place(layer: str) -> int:
    """Where a layer stands; one that is not of the house comes last."""
    return LAYERS.index(layer) if layer in LAYERS else len(LAYERS)
