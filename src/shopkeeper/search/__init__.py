"""Search over the catalogue: query -> words -> candidates -> order -> facets. Never an empty page."""

from shopkeeper.search.index import build
from shopkeeper.search.searcher import Searcher, SearchResult

__all__ = ["SearchResult", "Searcher", "build"]
