"""Shopkeeper (掌柜): a shop runs on its own data, as one closed loop."""

import os

# Read by Polars' allocator when Polars is first imported. Freed memory is kept for ten seconds and not
# for half a one: cleaning asks for it again at once, and a tenth of its CPU time was page faults.
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:10000,muzzy_decay_ms:-1")
