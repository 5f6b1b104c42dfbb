"""Shopkeeper (掌柜): a shop runs on its own data, as one closed loop."""
