"""Several user ids, one person: stitched by keys that the shop declares, with evidence for each link.

Two user ids agree on a key where they have the same value of it after its normalisation. Weights of
the keys they agree on add up to their score; 1 is enough, so a strong key links alone and weak ones in
combination. Of a key with `typos`, values that one typing error makes of each other count half; where
the error is in a Chinese character, which as well makes another name, they count nothing. The rule is
conservative:

    shared     a value that more than `max_users` users have links nobody (a shop's tablet, info@ …)
    veto       two groups that both have a value of a key with `veto`, and none in common, are two
               people, whatever else they share (values within `typos` of each other veto nothing)
    apart      two ids that somebody took apart (`shopkeeper identity unlink`) never meet again, nor
               through a third

Pairs join by score, best first, each only where nothing of one group speaks against the other, so a
chain of pairs cannot lead to what no pair would. A person is called by the id that registered first
(where that is unknown, the first in the order of letters).

Values leave this file only as keyed hashes; the salt is the workspace's own.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from shopkeeper.assets.buckets import bucket_column
from shopkeeper.assets.lineage import Derivation
from shopkeeper.assets.store import Assets, Run
from shopkeeper.config import IdentityKey, IdentitySettings
from shopkeeper.engine.steps import Context
from shopkeeper.errors import InputError, NotFound
from shopkeeper.governance.access import OWNER
from shopkeeper.words import Grade, Purpose

IDENTITIES = "clean.identities"
LINKS = "clean.identity_links"
MOVED = "clean.moved_events"
DECISIONS = "raw.identity_decisions"
APART, FREE = "apart", "free"

STOOD: dict[str, Any] = {"source": pl.String, "file": pl.String, "line": pl.Int64}
VALUES: dict[str, Any] = {"user_id": pl.String, "key": pl.String, "value": pl.String, **STOOD}
PERSONS = pl.Schema({"user_id": pl.String, "person": pl.String})
LINK: dict[str, Any] = {  # columns of LINKS
    "a": pl.String,
    "b": pl.String,
    "outcome": pl.String,  # linked | vetoed | apart | too_many
    "detail": pl.String,  # of a link that was refused: by which key
    "score": pl.Float64,  # of the pair
    "key": pl.String,
    "weight": pl.Float64,
    "value_hash": pl.String,
    **{f"{side}_{name}": kind for side in "ab" for name, kind in STOOD.items()},
}
DECISION: dict[str, Any] = {
    "a": pl.String,
    "b": pl.String,
    "decision": pl.String,  # apart | free; the newest of a pair counts
    "why": pl.String,
    "by": pl.String,
    "at": pl.Datetime("us", "UTC"),
}
_SYLLABLES = "\u2e80"  # from here on signs write syllables and words, no single sounds
WHOLE_PHONE = 10  # digits from which on a number is whole: with its area, or a mobile one
NO_VALUE = ("", "null", "none", "nan", "n/a", "unknown", "undefined", "-", "无", "未知")


@dataclass(frozen=True)
class Stitched:
    """What came of it."""

    persons: pl.DataFrame  # PERSONS: users of persons with several ids, sorted by user_id
    links: pl.DataFrame  # LINK: one row a pair and a key it agrees on, sorted; values still plain
    shared: int  # values too common to link anybody


def normalised(value: pl.Expr, key: IdentityKey) -> pl.Expr:
    """Text as it is compared; null where it cannot be a value of this key."""
    text = value.str.normalize("NFKC").str.strip_chars()
    lower = text.str.to_lowercase()
    match key.normalise:
        case "email":
            made = lower.str.replace(r"\+[^@]*@", "@")
            made = pl.when(made.str.contains(r"^[^@\s]+@[^@\s]+\.[^@\s]+$")).then(made)
        case "phone":
            written = text.str.replace(r"\.0+$", "")  # a number that once was a float
            digits = written.str.replace_all(r"[^0-9]", "")
            abroad = text.str.starts_with("+") | digits.str.starts_with("00")
            whole = ~digits.str.starts_with("0")
            digits = digits.str.strip_chars_start("0")
            if key.country:
                # 8613800138000: behind the code stands a number that is whole without it
                whole &= digits.str.len_chars() >= len(key.country) + WHOLE_PHONE
                abroad |= whole
                own = digits.str.starts_with(key.country) & abroad
                digits = pl.when(own).then(digits.str.slice(len(key.country))).otherwise(digits)
                digits = digits.str.strip_chars_start("0")
            made = pl.when(digits.str.len_chars().is_between(6, 15)).then(digits)
        case "name":
            made = lower.str.replace_all(r"[^\p{L}\p{N}]", "")
        case "lower":
            made = lower
        case _:
            made = text
    no = [*NO_VALUE, *(one.lower() for one in key.ignore)]
    return pl.when(~made.str.to_lowercase().is_in(no)).then(made)


def key_values(frame: pl.DataFrame, keys: Mapping[str, IdentityKey], table: str) -> pl.DataFrame:
    """The values of all keys that stand in `table` ("users" or "events"), VALUES, once a user.

    Args:
        frame: user_id, source, file, line, and the columns that the keys name (attributes as JSON).
    """
    parts = []
    for name, key in keys.items():
        at, column, *rest = key.source.split(".", 2)
        if at != table:
            continue
        value = pl.col(column).cast(pl.String)
        if rest:
            value = _attribute(value, rest[0])
        made = frame.select(
            pl.col("user_id").str.strip_chars(),
            key=pl.lit(name),
            value=normalised(value, key),
            source="source",
            file="file",
            line="line",
        ).filter(pl.col("value").is_not_null(), pl.col("user_id").is_not_null())
        parts.append(made.sort("file", "line").unique(["user_id", "value"], keep="first"))
    return pl.concat([pl.DataFrame(schema=VALUES), *parts])


def _attribute(values: pl.Expr, name: str) -> pl.Expr:
    """One member of objects in JSON, as text."""
    if "\\" not in name:
        return values.str.json_path_match(f"$['{name}']")

    def read(text: str) -> str | None:  # Polars' JSON paths know no backslash in a name
        try:
            told = json.loads(text)
        except ValueError:
            return None
        value = told.get(name) if isinstance(told, dict) else None
        return value if isinstance(value, str | None) else json.dumps(value, ensure_ascii=False)

    return values.map_elements(read, return_dtype=pl.String)


def stitch(
    values: pl.DataFrame,
    settings: IdentitySettings,
    *,
    since: Mapping[str, datetime] | None = None,
    apart: Iterable[tuple[str, str]] = (),
) -> Stitched:
    """Who is whom.

    Args:
        values: VALUES; the same value of a user may stand several times.
        since: user id -> when registered, where known.
        apart: pairs of user ids that are not one person, whatever they share.
    """
    keys = settings.keys
    values = values.sort("user_id", "key", "value", "file", "line")
    values = values.unique(["user_id", "key", "value"], keep="first", maintain_order=True)
    agreeing, shared = _agreeing(values, keys)
    pairs = (
        agreeing.unique(["a", "b", "key"])
        .group_by("a", "b")
        .agg(score=pl.col("weight").sum().round(6))
    )
    pairs = _with_near(pairs, values, keys).filter(pl.col("score") >= 1.0)
    pairs = pairs.sort(["score", "a", "b"], descending=[True, False, False])
    groups = _Groups(settings, _vetoing(values, keys, pairs), apart)
    outcomes = [groups.join(a, b) for a, b in pairs.select("a", "b").iter_rows()]
    judged = pairs.with_columns(
        pl.Series("outcome", [o for o, _ in outcomes], dtype=pl.String),
        pl.Series("detail", [d for _, d in outcomes], dtype=pl.String),
    )
    links = judged.join(agreeing, on=["a", "b"]).sort("a", "b", "key", "value")
    rows = []
    for members in groups.members.values():
        if len(members) > 1:
            person = _called(members, since or {})
            rows += [(user, person) for user in members]
    persons = pl.DataFrame(rows, schema=PERSONS, orient="row").sort("user_id")
    return Stitched(persons, links, shared)


def _agreeing(values: pl.DataFrame, keys: Mapping[str, IdentityKey]) -> tuple[pl.DataFrame, int]:
    """Pairs of users (a < b) with a value in common, where both have it; how many are too common."""
    about = pl.DataFrame(
        [(name, key.weight, key.max_users) for name, key in keys.items()],
        schema={"key": pl.String, "weight": pl.Float64, "limit": pl.UInt32},
        orient="row",
    )
    sizes = values.group_by("key", "value").len().join(about, on="key")
    usable = sizes.filter(pl.col("len").is_between(2, pl.col("limit")))
    held = values.join(usable.select("key", "value", "weight"), on=["key", "value"])
    a = held.rename({"user_id": "a", "source": "a_source", "file": "a_file", "line": "a_line"})
    b = held.drop("weight").rename(
        {"user_id": "b", "source": "b_source", "file": "b_file", "line": "b_line"}
    )
    faint = _faint(keys)
    seeds = ~pl.col("key").is_in(faint)
    both = a.filter(seeds).join(b.filter(seeds), on=["key", "value"])
    both = both.filter(pl.col("a") < pl.col("b"))
    asked = both.select("a", "b").unique()
    more = asked.join(a.filter(~seeds), on="a").join(b.filter(~seeds), on=["b", "key", "value"])
    both = pl.concat([both, more.select(both.columns)])
    return both, sizes.filter(pl.col("len") > pl.col("limit")).height


def _faint(keys: Mapping[str, IdentityKey]) -> list[str]:
    """Keys too weak to bring two users together without any other: these are not paired by them."""
    near = sum(key.weight / 2 for key in keys.values() if key.typos)
    found: list[str] = []
    for name, key in sorted(keys.items(), key=lambda pair: (pair[1].weight, pair[0])):
        near += key.weight / 2 if key.typos else key.weight
        if near >= 1.0:
            break
        found.append(name)
    return found


def _with_near(
    pairs: pl.DataFrame, values: pl.DataFrame, keys: Mapping[str, IdentityKey]
) -> pl.DataFrame:
    """Pairs just short of 1, with half the weight of keys whose values are one typing error apart."""
    near = {name: key.weight / 2 for name, key in keys.items() if key.typos}
    short = pairs.filter(pl.col("score").is_between(1.0 - sum(near.values()), 1.0, closed="left"))
    if not short.height:
        return pairs
    more = []
    for name, half in near.items():
        one = values.filter(pl.col("key") == name).select("user_id", "value")
        both = short.join(one.rename({"user_id": "a", "value": "left"}), on="a")
        both = both.join(one.rename({"user_id": "b", "value": "right"}), on="b")
        texts = zip(both["left"].to_list(), both["right"].to_list(), strict=True)
        close = pl.Series([x != y and mistyped(x, y) for x, y in texts], dtype=pl.Boolean)
        same = both.filter(pl.col("left") == pl.col("right")).select("a", "b")
        hits = both.filter(close).select("a", "b").unique().join(same, on=["a", "b"], how="anti")
        more.append(hits.with_columns(more=pl.lit(half)))
    gained = pl.concat(more).group_by("a", "b").agg(pl.col("more").sum())
    joined = pairs.join(gained, on=["a", "b"], how="left")
    return joined.with_columns(score=(pl.col("score") + pl.col("more").fill_null(0)).round(6)).drop("more")  # fmt: skip


def _vetoing(
    values: pl.DataFrame, keys: Mapping[str, IdentityKey], pairs: pl.DataFrame
) -> dict[str, dict[str, frozenset[str]]]:
    """user -> key -> values that may speak against a link, of users of `pairs`."""
    users = pl.concat([pairs["a"], pairs["b"]]).unique()
    names = [name for name, key in keys.items() if key.vetoes]
    some = values.filter(pl.col("key").is_in(names), pl.col("user_id").is_in(users.implode()))
    found: dict[str, dict[str, frozenset[str]]] = {}
    for user, key, told in some.group_by("user_id", "key").agg("value").iter_rows():
        found.setdefault(user, {})[key] = frozenset(told)
    return found


class _Groups:
    """Users joined so far: each group's members, and what speaks for or against it."""

    def __init__(
        self,
        settings: IdentitySettings,
        values: dict[str, dict[str, frozenset[str]]],
        apart: Iterable[tuple[str, str]],
    ) -> None:
        self.settings = settings
        self.values = values
        self.group: dict[str, str] = {}
        self.members: dict[str, list[str]] = {}
        self.apart: dict[str, set[str]] = {}
        for a, b in apart:
            self.apart.setdefault(a, set()).add(b)
            self.apart.setdefault(b, set()).add(a)

    def join(self, a: str, b: str) -> tuple[str, str]:
        """(outcome, detail) of one pair; groups become one where nothing speaks against it."""
        one, other = self._of(a), self._of(b)
        if one == other:
            return "linked", ""
        left, right = self.members[one], self.members[other]
        for user in left:
            if met := self.apart.get(user, set()).intersection(right):
                return "apart", f"{user} and {min(met)} were taken apart"
        if key := self._conflict(self.values.get(one, {}), self.values.get(other, {})):
            return "vetoed", key
        if len(left) + len(right) > self.settings.max_ids:
            return "too_many", f"more than {self.settings.max_ids} ids would be one person"
        if len(right) > len(left):
            one, other = other, one
        kept = self.values.setdefault(one, {})
        for key, told in self.values.get(other, {}).items():
            kept[key] = kept.get(key, frozenset()) | told
        moving = self.members.pop(other)
        self.members[one] += moving
        for user in moving:
            self.group[user] = one
        return "linked", ""

    def _of(self, user: str) -> str:
        if user not in self.group:
            self.group[user] = user
            self.members[user] = [user]
        return self.group[user]

    def _conflict(
        self, left: Mapping[str, frozenset[str]], right: Mapping[str, frozenset[str]]
    ) -> str:
        """The first key (by name) of which both have values and none alike; "": none."""
        for key in sorted(left.keys() & right.keys()):
            typos = self.settings.keys[key].typos
            if left[key] & right[key]:
                continue
            near = (one_typo(a, b) for a in left[key] for b in right[key]) if typos else ()
            if not any(near):
                return key
        return ""


def one_typo(a: str, b: str) -> bool:
    """Whether one sign more, less, other, or two neighbours swapped make `a` of `b`."""
    return _differ(a, b) is not None


def mistyped(a: str, b: str) -> bool:
    """Whether `one_typo` in signs that are typed one by one makes `a` of `b`.

    A sign that writes a syllable or a word (Chinese, Japanese, Korean) may be a slip, but as well it
    makes another name: 王伟 and 王芳.
    """
    other = _differ(a, b)
    return other is not None and all(sign < _SYLLABLES for sign in other)


def _differ(a: str, b: str) -> str | None:
    """The signs in which `one_typo` sets `a` and `b` apart; None where it does not."""
    if abs(len(a) - len(b)) > 1:
        return None
    if len(a) > len(b):
        a, b = b, a
    start = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
    if len(a) < len(b):
        return b[start : start + 1] if a[start:] == b[start + 1 :] else None
    if a[start + 1 :] == b[start + 1 :]:
        return a[start : start + 1] + b[start : start + 1]
    swapped = a[start : start + 2] == b[start : start + 2][::-1]
    return a[start : start + 2] if swapped and a[start + 2 :] == b[start + 2 :] else None


def _called(members: Sequence[str], since: Mapping[str, datetime]) -> str:
    late = datetime.max.replace(tzinfo=UTC)
    return min(members, key=lambda user: (since.get(user, late), user))


# the step


def identity_step(context: Context) -> None:
    """clean.users, raw.events and raw.feedback -> clean.identities, clean.identity_links and
    clean.moved_events: raw events of users whose person lives in another bucket, in that bucket.

    A bucket at a time; what stays in memory is one short row a user and key (for users of several
    ids, a few more), and of one bucket its events.
    """
    run, settings = context.run, context.settings.identity
    buckets = context.settings.buckets
    _columns_there(run, settings.keys)
    values = [pl.DataFrame(schema=VALUES)]
    since: dict[str, datetime] = {}
    named = {key.source.split(".")[1] for key in settings.keys.values()
             if key.source.startswith("users.")}  # fmt: skip
    wanted = ["user_id", "registered_at", *sorted(named - {"user_id", "registered_at"}), *STOOD]
    for bucket in range(buckets):
        if run.has("clean.users"):
            users = run.read("clean.users", columns=wanted, buckets=[bucket])
            values.append(key_values(users, settings.keys, "users"))
            known = users.select("user_id", "registered_at").drop_nulls()
            since |= dict(known.iter_rows())
        values += [key_values(events, settings.keys, "events") for events in _raw(context, bucket)]
        context.progress(bucket + 1, 2 * buckets, f"keys of bucket {bucket + 1}")
    found = stitch(
        pl.concat(values),
        settings,
        since=since,
        apart=[] if not run.has(DECISIONS) else _apart(run.read(DECISIONS)),
    )
    persons = run.table(
        IDENTITIES,
        description="users who are one person with others: user id -> the person's id",
        grade=Grade.PERSONAL,
    )
    persons.put(found.persons)
    run.table(
        LINKS,
        description="why users are, or in spite of it are not, one person: each key two agree on",
        grade=Grade.PERSONAL,
    ).put(_hashed(found.links, salt(context.assets)))
    keyed = [(name, one) for name, read in run.lineage.read.items() for one in sorted(read)]
    run.derive(IDENTITIES, Derivation(dict.fromkeys(PERSONS, keyed), keyed))
    run.derive(LINKS, Derivation(dict.fromkeys(LINK, keyed), keyed))
    _move(context, found.persons)
    outcomes = dict(found.links.unique(["a", "b"]).group_by("outcome").len().iter_rows())
    run.note("persons", found.persons["person"].n_unique())
    run.note("users", found.persons.height)
    run.note("pairs", {name: int(count) for name, count in sorted(outcomes.items())})
    run.note("values_too_common", found.shared)


def _columns_there(run: Run, keys: Mapping[str, IdentityKey]) -> None:
    """InputError: a key stands in a column that its table has not."""
    for table, asset in (("users", "clean.users"), ("events", "raw.events")):
        there = run.scan(asset).collect_schema().names() if run.has(asset) else None
        for name, key in keys.items():
            at, column, *rest = key.source.split(".", 2)
            if at != table or there is None:
                continue
            if column not in there:
                aside = f"users.attributes.{column}" if table == "users" else ""
                raise InputError(
                    f"table {table} has no column {column!r}",
                    where=f"shop.toml: identity.keys.{name}.from",
                    next=(f'other columns of users are attributes: from = "{aside}"' if aside else
                          f"it has: {', '.join(c for c in there if c not in (*STOOD, 'seq'))}"),
                )  # fmt: skip
            if rest and column != "attributes":
                raise InputError(
                    f"{at}.{column} is one value and has no part {rest[0]!r}",
                    where=f"shop.toml: identity.keys.{name}.from",
                    next=f'write from = "{at}.{column}"',
                )


def _raw(context: Context, bucket: int) -> Iterable[pl.DataFrame]:
    """What of raw events the keys need."""
    names = {key.source.split(".")[1] for key in context.settings.identity.keys.values()
             if key.source.startswith("events.")}  # fmt: skip
    for name in ("raw.events", "raw.feedback"):
        if names and context.run.has(name):
            columns = ["user_id", *sorted(names - {"user_id"}), *STOOD]
            yield context.run.read(name, columns=columns, buckets=[bucket])


def _move(context: Context, persons: pl.DataFrame) -> None:
    """Rows of users whose person lives in another bucket, a bucket of raw rows at a time."""
    run, buckets = context.run, context.settings.buckets
    away = movers(persons, buckets)
    moved = run.table(
        MOVED,
        description="raw events of users whose person lives in another part, in that part",
        grade=Grade.PERSONAL,
    )
    sources = [name for name in ("raw.events", "raw.feedback") if run.has(name)]
    for bucket in range(buckets):
        here = away.filter(pl.col("from") == bucket)
        for name in sources:
            scan = run.scan(name, buckets=[bucket]).with_columns(origin=pl.lit(name))
            moved.put(scan.clear().collect())
            if not here.height:
                continue
            rows = scan.filter(_of_users(here["user_id"])).collect()
            there = rows.select(pl.col("user_id").str.strip_chars()).join(
                here, on="user_id", how="left", maintain_order="left"
            )["to"]
            for (to,), part in rows.group_by(there, maintain_order=True):
                moved.put(part, bucket=int(str(to)))
        context.progress(buckets + bucket + 1, 2 * buckets, f"events of bucket {bucket + 1}")
    columns = {name: [(source, name) for source in sources] for name in moved.schema or ()}
    who = [(name, "user_id") for name in sources]
    columns["origin"] = []
    who += [
        (name, one)
        for name, read in run.lineage.read.items()
        if name not in sources
        for one in read
    ]
    run.derive(MOVED, Derivation(columns, who, list(columns)))
    run.note("moved_events", moved.rows)


def _of_users(users: pl.Series) -> pl.Expr:
    return pl.col("user_id").str.strip_chars().is_in(users.implode())


def movers(persons: pl.DataFrame, buckets: int) -> pl.DataFrame:
    """user_id, from, to: users whose person lives in another bucket."""
    places = persons.with_columns(
        bucket_column(persons["user_id"], buckets).alias("from"),
        bucket_column(persons["person"], buckets).alias("to"),
    )
    return places.filter(pl.col("from") != pl.col("to")).drop("person")


# what follows from it


def of_bucket(
    name: str, bucket: int, raw: pl.LazyFrame, came: pl.LazyFrame, away: pl.DataFrame
) -> pl.LazyFrame:
    """Raw rows of the persons of a bucket: without those that moved away, with those that came.

    Args:
        name: the raw table.
        came: rows of MOVED in this bucket.
        away: `movers`.
    """
    stayed = raw
    if len(gone := away.filter(pl.col("from") == bucket)["user_id"]):
        stayed = raw.filter(~_of_users(gone).fill_null(False))
    mine = came.filter(pl.col("origin") == name).drop("origin")
    return pl.concat([stayed, mine])


def follow(events: pl.DataFrame, persons: pl.DataFrame) -> pl.DataFrame:
    """Clean events of a bucket with the person as `user_id`, in one sequence a person.

    Two ids of one person may count their events alike; of such two, that of an id which is not the
    person's own is called "<its user>/<its id>".
    """
    ids = dict(persons.iter_rows())
    if (
        not ids
        or not events.height
        or not events["user_id"].is_in(persons["user_id"].implode()).any()
    ):
        return events
    own = pl.col("user_id")
    named = events.with_columns(own.replace(ids), own_id=own)
    again = pl.struct("user_id", "event_id").is_duplicated()
    other = pl.concat_str("own_id", "event_id", separator="/")
    event_id = pl.when(again & (pl.col("own_id") != own)).then(other)
    named = named.with_columns(event_id=pl.coalesce(event_id, "event_id"))
    return named.drop("own_id").sort("user_id", "ts", "seq", nulls_last=False, maintain_order=True)


def members(persons: pl.DataFrame, users: Iterable[str]) -> list[str]:
    """`users`, their persons and all ids of these, sorted."""
    asked = set(users)
    ids = persons.filter(pl.col("user_id").is_in(list(asked)))["person"].unique()
    same = persons.filter(pl.col("person").is_in(ids.implode()))["user_id"]
    return sorted(asked | set(same))


# evidence and decisions


def salt(assets: Assets) -> bytes:
    """The workspace's own, made when first asked for; without it a hash says nothing."""
    return bytes.fromhex(str(assets.catalog.fix("identity_salt", secrets.token_hex(16))))


def _hashed(links: pl.DataFrame, key: bytes) -> pl.DataFrame:
    texts = links.select(text=pl.concat_str("key", "value", separator="\0"))["text"]
    made = {
        text: hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:16]
        for text in texts.unique()
    }
    hashes = pl.Series("value_hash", [made[text] for text in texts], dtype=pl.String)
    return links.with_columns(hashes).select(*LINK)


def _apart(decisions: pl.DataFrame) -> list[tuple[str, str]]:
    newest = decisions.sort("at", maintain_order=True).unique(["a", "b"], keep="last")
    held = newest.filter(pl.col("decision") == APART)
    return sorted(held.select("a", "b").iter_rows())


def decide(assets: Assets, a: str, b: str, decision: str, why: str, by: str) -> dict[str, Any]:
    """Keep a decision about two user ids; it is on disk when this returns, and the next run heeds it.

    InputError: one id twice, or no reason. NotFound: nothing ever linked the two.
    """
    if a == b:
        raise InputError(f"{a!r} twice, wanted two user ids", where="identity")
    if not why.strip():
        raise InputError("no reason given", where="identity", next='say it: --why "…"')
    a, b = sorted((a, b))
    if decision == FREE:
        held = _apart(_read(assets, DECISIONS)) if assets.exists(DECISIONS) else []
        if (a, b) not in held:
            raise NotFound(f"{a} and {b} were not taken apart", where="identity")
    elif (person := identities(assets, a)["person"]) != identities(assets, b)["person"]:
        raise NotFound(
            f"{a} and {b} are not one person ({a} is {person})",
            where="identity",
            next=f"see who is: shopkeeper identity show {a}",
        )
    at = datetime.now(UTC)
    row = pl.DataFrame([(a, b, decision, why.strip(), by, at)], schema=DECISION, orient="row")
    with assets.run("identity.decide", parameters={"decision": decision}) as run:
        table = run.table(DECISIONS, "append", description="what people said of who is whom")
        table.grade = Grade.PERSONAL
        table.put(row)
    return {"a": a, "b": b, "decision": decision, "why": why.strip(), "by": by,
            "at": at.isoformat(), "next": "make it so with: shopkeeper run"}  # fmt: skip


def identities(assets: Assets, user_id: str) -> dict[str, Any]:
    """{"person", "users", "links": [{"a", "b", "key", "evidence", "score", "outcome", "detail"}],
    "decisions"}: all ids of a user's person, and what speaks for and against each link."""
    users, links, decisions = [user_id], [], []
    person = user_id
    if assets.exists(IDENTITIES):
        persons = _read(assets, IDENTITIES)
        users = members(persons, [user_id])
        mine = persons.filter(pl.col("user_id") == user_id)["person"]
        person = mine[0] if len(mine) else user_id
    if assets.exists(LINKS):
        scan = assets.scan(LINKS, by=OWNER, purpose=Purpose.ANALYSE)
        about = scan.filter(pl.col("a").is_in(users) | pl.col("b").is_in(users)).collect()
        for row in about.iter_rows(named=True):
            sides = [{name: row[f"{side}_{name}"] for name in STOOD} for side in "ab"]
            evidence = {"value_hash": row["value_hash"], "weight": row["weight"]}
            links.append(
                {name: row[name] for name in ("a", "b", "key", "score", "outcome", "detail")}
                | {"evidence": evidence | {"a": sides[0], "b": sides[1]}}
            )
    if assets.exists(DECISIONS):
        told = _read(assets, DECISIONS)
        told = told.filter(pl.col("a").is_in(users) | pl.col("b").is_in(users))
        decisions = [row | {"at": row["at"].isoformat()} for row in told.iter_rows(named=True)]
    return {"person": person, "users": users, "links": links, "decisions": decisions}


def _read(assets: Assets, name: str) -> pl.DataFrame:
    return assets.read(name, by=OWNER, purpose=Purpose.ANALYSE)


def persons_of(run: Run) -> pl.DataFrame:
    """PERSONS as a run reads them; empty where nothing is stitched."""
    return run.read(IDENTITIES) if run.has(IDENTITIES) else pl.DataFrame(schema=PERSONS)
