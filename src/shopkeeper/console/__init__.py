"""The pages: a storefront that shows the loop working, and the console that shows the data behind.

Server-rendered Jinja and htmx, charts by ECharts, all served by us; Chinese and English. The pages
ask the same `Shop` the API asks and hold no data of their own.
"""
