"""Releases, the durable event log, online state: answers requests, knows nothing of HTTP."""

from shopkeeper.serving.service import Answer, Hit, SearchAnswer, Service

__all__ = ["Answer", "Hit", "SearchAnswer", "Service"]
