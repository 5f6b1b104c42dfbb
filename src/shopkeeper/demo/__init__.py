"""The demo marketplace: simulated, with known truth. It writes raw files and shop.toml, nothing else.

What it says of quality is about a simulation; claims are made on public data (docs/benchmarks.md).
"""

from shopkeeper.demo.marketplace import write
from shopkeeper.demo.truth import simulate_clicks

__all__ = ["simulate_clicks", "write"]
