"""Questions about the shop: one SELECT over assets, charts of what it answers, ready-made reports."""
