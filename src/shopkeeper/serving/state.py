"""What a user has done, now: the release's snapshot of histories and the events logged since.

Nothing is kept between requests but a bounded cache: the event log itself, indexed by user, is the
state, so every worker sees an event as soon as it is acknowledged. Features are computed by
`features.sequences.pack`, the same code as in training.
"""

import bisect
import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np

from shopkeeper.features.sequences import NO_TIME, Sequences, pack
from shopkeeper.serving.events import Act, EventLog, session_key, user_key
from shopkeeper.serving.snapshot import Snapshot
from shopkeeper.words import KIND_CODES, SITTING_MS, VISIT, Kind

CACHED = 20_000
SITTING_ACTS = 10


@dataclass(frozen=True)
class Rules:
    """How events become a history; the same as in cleaning and feature building."""

    kinds: frozenset[str]
    limit: int = 200  # newest events kept
    same_event_ms: int = 2000  # the same item and kind again within this time is one event
    future_ms: int = 600_000  # an event further ahead than this of its arrival is not believed


@dataclass(frozen=True)
class History:
    """Newest last. `version` names this state: it changes with every event of the user."""

    acts: tuple[Act, ...]
    version: tuple[int, int]

    def items(self, kinds: Iterable[str]) -> list[str]:
        """Distinct item ids with an event of one of `kinds`, newest first."""
        wanted = frozenset(kinds)
        return list(dict.fromkeys(a.item_id for a in reversed(self.acts) if a.kind in wanted))

    def just_viewed(self) -> list[str]:
        """Distinct items viewed in the newest sitting (where there are no times: of the newest
        `SITTING_ACTS` events), newest first."""
        found: list[str] = []
        after: Act | None = None
        for number, act in enumerate(reversed(self.acts)):
            if after is not None and (
                after.ts_ms - act.ts_ms > SITTING_MS
                or (act.ts_ms == NO_TIME and number >= SITTING_ACTS)
            ):
                break
            if act.kind == Kind.VIEW:
                found.append(act.item_id)
            after = act
        return list(dict.fromkeys(found))


STRANGER = History((), (0, 0))


class Histories:
    """Users' and sessions' histories under one release's snapshot; safe to share."""

    def __init__(
        self,
        log: EventLog,
        snapshot: Snapshot,
        rules: Rules,
        persons: Mapping[str, str] | None = None,
    ) -> None:
        """`persons`: user id -> the id its person has in the snapshot, of users of several ids."""
        self.log = log
        self.snapshot = snapshot
        self.rules = rules
        self._persons = persons or {}
        self._keys: dict[str, list[str]] = {}  # person -> whose events in the log are theirs
        for user, person in self._persons.items():
            self._keys.setdefault(person, []).append(_log_key(user))
        self._cache: OrderedDict[tuple[str | None, str | None], History] = OrderedDict()
        self._lock = Lock()

    def version(self, user_id: str | None, session_id: str | None) -> tuple[int, int]:
        """The state version now; one index look-up each."""
        return (
            max(map(self.log.version_of, self._of(user_id))) if user_id else 0,
            self.log.version_of(session_key(session_id)) if session_id else 0,
        )

    def of(self, user_id: str | None, session_id: str | None = None) -> History:
        """The history now: of the user, and of the session's events from before the login."""
        version = self.version(user_id, session_id)
        key = (user_id, session_id)
        with self._lock:
            known = self._cache.get(key)
            if known is not None and known.version == version:
                self._cache.move_to_end(key)
                return known
        found = self.at(user_id, session_id, version)
        with self._lock:
            self._cache[key] = found
            self._cache.move_to_end(key)
            while len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return found

    def at(self, user_id: str | None, session_id: str | None, version: tuple[int, int]) -> History:
        """The history as it was at `version`; replay uses this, and so does `of`."""
        acts: list[Act] = []
        logged: list[Act] = []
        if user_id is not None:
            acts = self.snapshot.acts(self._persons.get(user_id, user_id))
            for key in self._of(user_id):
                logged += self.log.of(key, self.snapshot.position, version[0])
        if session_id is not None and version[1]:
            logged += self.log.of(session_key(session_id), 0, version[1])
        logged.sort(key=lambda act: (act.ts_us, act.seq))  # as the lake has them
        fold(acts, logged, self.rules)
        return History(tuple(acts[-self.rules.limit :]), version)

    def _of(self, user_id: str) -> list[str]:
        """Under which keys the log has what this person did."""
        if not self._persons:
            return [user_key(user_id)]
        return self._keys.get(self._persons.get(user_id, user_id)) or [user_key(user_id)]


def _log_key(user: str) -> str:
    """The log's key of a user of the lake, where a visit is a user as well."""
    visit = user.startswith(VISIT)
    return session_key(user.removeprefix(VISIT)) if visit else user_key(user)


def fold(acts: list[Act], new: Sequence[Act], rules: Rules) -> None:
    """Add `new` to `acts` in order of time (equal times: of arrival), in place.

    Left out: kinds that say nothing about interest, events from the future, and the same event sent
    again within moments.
    """
    for act in new:
        if act.kind not in rules.kinds or act.ts_ms > act.received_ms + rules.future_ms:
            continue
        at = bisect.bisect_right(acts, act.ts_ms, key=lambda known: known.ts_ms)
        if not _again(acts, at, act, rules.same_event_ms):
            acts.insert(at, act)
        if len(acts) > 2 * rules.limit:
            del acts[: -rules.limit]


def _again(acts: list[Act], at: int, act: Act, within_ms: int) -> bool:
    for known in reversed(acts[:at]):
        if known.ts_ms == NO_TIME or act.ts_ms - known.ts_ms > within_ms:
            break
        if (known.item_id, known.kind, known.quantity) == (act.item_id, act.kind, act.quantity):
            return True
    for known in acts[at:]:
        if known.ts_ms - act.ts_ms > within_ms:
            break
        if (known.item_id, known.kind, known.quantity) == (act.item_id, act.kind, act.quantity):
            return True
    return False


def given(items: Sequence[str], kind: str) -> tuple[Act, ...]:
    """A history that came with the request: item ids, oldest first, no times."""
    return tuple(Act(0, NO_TIME, item, kind, None, None, None, 0) for item in items)


def features(acts: Sequence[Act], index: Mapping[str, int], items: int, limit: int) -> Sequences:
    """One history as models see it: the newest `limit` events of items that they know.

    Args:
        index: item id -> row; rows from `items` on are not known to models.
    """
    kept = [(index[a.item_id], a) for a in acts if index.get(a.item_id, items) < items][-limit:]
    nan = float("nan")
    return pack(
        [""],
        [len(kept)],
        [row for row, _ in kept],
        kinds=[KIND_CODES[act.kind] for _, act in kept],
        times=[act.ts_ms for _, act in kept],
        dwell_ms=[nan if act.dwell_ms is None else act.dwell_ms for _, act in kept],
        price_minor=[nan if act.price_minor is None else act.price_minor for _, act in kept],
    )


def digest(histories: Sequences) -> str:
    """16 hex digits that change with any feature of any event; logged with every answer."""
    total = hashlib.sha256()
    for values in (
        histories.offsets,
        histories.items,
        histories.kinds,
        histories.times,
        histories.dwell,
        histories.prices,
    ):
        total.update(np.ascontiguousarray(values).tobytes())
    return total.hexdigest()[:16]
