"""shop.toml -> typed, frozen settings. Every key has its reason and its default here.

An unknown key is an error that names the nearest known one.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from shopkeeper.errors import InputError, NotFound
from shopkeeper.words import KIND_CODES, WHOLE_FILES

TableName = Literal[
    "events",
    "items",
    "users",
    "shops",
    "images",
    "regions",
    "campaigns",
    "coupons",
    "price_history",
    "stock_movements",
    "shop_stats",
    "reviews",
    "user_tags",
    "follows",
    "campaign_participation",
    "dialogues",
    "knowledge",
    "audio",
]
Format = Literal[
    "csv", "xlsx", "parquet", "jsonl", "images", "audio", "sql", "kafka", "redis", "webhook"
]
STREAMS = {  # formats that are read message by message -> what else their block needs
    "kafka": "`url` (kafka://host:9092) and `stream` (the topic)",
    "redis": "`url` (redis://host:6379/0) and `stream` (the key of the stream)",
    "webhook": "`stream` (its name in the address) and `signature.secret`",
}
FROM_ENVIRONMENT = re.compile(r"\$\{\w+\}")  # how a value that is kept out of files is written


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class When(Section):
    """A rule for columns that hold two meanings: where `column` matches, set other columns."""

    column: str
    """the source's own column name"""
    starts_with: str | None = None
    equals: str | None = None
    below: float | None = None
    """numeric: matches where the value is strictly below"""
    set: dict[str, str]
    """canonical column -> constant value, e.g. { kind = "return" }"""

    @model_validator(mode="after")
    def _one_test(self) -> "When":
        tests = [self.starts_with, self.equals, self.below]
        if sum(test is not None for test in tests) != 1:
            raise ValueError("a `when` rule takes exactly one of starts_with, equals, below")
        return self


class Signature(Section):
    """How a webhook proves who sent it: HMAC-SHA256 with a shared secret. The defaults are those of
    Standard Webhooks (standardwebhooks.com); docs/streams.md has GitHub's, Shopify's and Slack's."""

    secret: str
    """"${NAME}", read from the environment. whsec_… is taken as base64, as that standard says"""
    header: str = "webhook-signature"
    """where the signature stands; several, separated by blanks, may: one must be right"""
    prefix: str = "v1,"
    """in front of a signature, e.g. "sha256=" """
    encoding: Literal["base64", "hex"] = "base64"
    signed: str = "{id}.{timestamp}.{body}"
    """what is signed"""
    timestamp_header: str = "webhook-timestamp"
    """seconds since 1970; "" where the sender has none, then only the id stops a replay"""
    id_header: str = "webhook-id"
    """the delivery's own id, where {id} is signed: the same one again changes nothing. Where it is
    not, the digest of what was signed takes its place"""
    window_seconds: float = Field(300.0, gt=0)
    """a timestamp that is further from now is refused: an old delivery may be a replayed one"""

    @field_validator("secret")
    @classmethod
    def _outside(cls, value: str) -> str:
        if not FROM_ENVIRONMENT.fullmatch(value):
            raise ValueError('a secret is written as "${NAME}" and read from the environment')
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "Signature":
        if "{body}" not in self.signed:
            raise ValueError("`signed` must hold {body}: what is not signed could be anybody's")
        for part, header in (("{timestamp}", self.timestamp_header), ("{id}", self.id_header)):
            if part in self.signed and not header:
                raise ValueError(f"`signed` holds {part}, and no header is named that brings it")
        if self.timestamp_header and "{timestamp}" not in self.signed:
            raise ValueError(
                'a timestamp that is not in `signed` proves nothing; write timestamp_header = ""'
            )
        return self


class Source(Section):
    """One place rows come from. Adding data to a shop is one `[[sources]]` block."""

    table: TableName
    """which canonical table the rows go to"""
    path: str | None = None
    """file, folder or glob, relative to the workspace, or s3://bucket/prefix; not for sql and streams"""
    format: Format | None = None
    """guessed from the suffix when left out"""
    name: str | None = None
    """how lineage and quarantine call it; default: the path or the SQL table"""
    encoding: str = "utf-8"
    """text files only; e.g. "gb18030" """
    delimiter: str = ","
    header: tuple[str, ...] | None = None
    """text files without a header line: what their columns are called, in order"""
    sheet: str | None = None
    """xlsx only; default: the first sheet"""
    timezone: str | None = None
    """of times without an offset; default: the shop's"""
    columns: dict[str, str] = Field(default_factory=dict)
    """canonical name -> the source's name, e.g. { user_id = "uid" }; same names need no entry"""
    attributes: tuple[str, ...] | None = None
    """items, users, shops: the source's columns kept as attributes; default: all that are not
    mapped. Lists those that say something when `path` is e.g. a list of orders; [] for none"""
    units: dict[str, str] = Field(default_factory=dict)
    """canonical column -> unit it is delivered in: ts: "iso" (default), "s", "ms", "us", or a strptime
    format; dwell_ms: "ms" (default), "s"; price_minor: "major" from a column called price, else "minor";
    propensity: none"""
    kinds: dict[str, str] = Field(default_factory=dict)
    """the source's event kind -> ours, e.g. { pv = "view", buy = "purchase" }"""
    constants: dict[str, str] = Field(default_factory=dict)
    """canonical column -> a value for every row, e.g. { kind = "purchase" }"""
    when: tuple[When, ...] = ()
    """rules applied in order, after constants"""
    url: str | None = None
    """sql: postgresql://… or mysql://…; kafka://host:9092,host2:9092; redis://… or rediss://…;
    ${NAME} is read from the environment"""
    stream: str | None = None
    """kafka: the topic; redis: the stream's key; webhook: its name in /v1/hooks/NAME"""
    options: dict[str, str] = Field(default_factory=dict)
    """kafka only: settings of librdkafka, e.g. { "security.protocol" = "SASL_SSL" }; passwords as
    "${NAME}" """
    signature: Signature | None = None
    """webhook only: how a delivery is proved to be the sender's"""
    sql_table: str | None = None
    """sql only: the table to read"""
    watermark: str | None = None
    """sql only: an ever-growing column; only rows beyond the last seen value are read"""
    overlap: float = Field(0.0, ge=0)
    """sql only, with `watermark`: so far before the last value it is looked for rows that were committed
    late (seconds of a time, else the number itself); those read before are left out"""
    skip: bool = False
    """true: keep the block, do not read it"""

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None:
            known_zone(value)
        return value

    @field_validator("kinds")
    @classmethod
    def _known_kinds(cls, value: dict[str, str]) -> dict[str, str]:
        known_kinds(value.values())
        return value

    @model_validator(mode="after")
    def _somewhere(self) -> "Source":
        if self.format == "sql":
            if not self.url or not self.sql_table:
                raise ValueError('a source with format = "sql" needs `url` and `sql_table`')
            if self.overlap and not self.watermark:
                raise ValueError(
                    "`overlap` says how far before the `watermark` to look; name that too"
                )
        elif self.format in STREAMS:
            _check_stream(self)
        elif not self.path:
            known = {"kafka": "kafka", "redis": "redis", "rediss": "redis"}
            scheme = (self.url or "").partition("://")[0]
            said = f', or format = "{known.get(scheme, "sql")}" with this `url`' if scheme else ""
            raise ValueError(f"a source needs `path`{said}")
        elif "://" in self.path and (self.table in WHOLE_FILES or self.format in WHOLE_FILES):
            raise ValueError(
                f"{self.table} are read from a local folder; copy the bucket there first"
            )
        return self


def _check_stream(source: Source) -> None:
    """ValueError where the block of a stream lacks something, or holds a password."""
    form = str(source.format)
    needs = (source.stream, source.signature if form == "webhook" else source.url)
    if not all(needs):
        raise ValueError(f'a source with format = "{form}" needs {STREAMS[form]}')
    scheme = str(source.url).partition("://")[0]
    if (
        form != "webhook"
        and scheme not in {"kafka": ("kafka",), "redis": ("redis", "rediss")}[form]
    ):
        raise ValueError(f"`url` begins with {scheme}:// where {STREAMS[form]} is wanted")
    if form == "webhook" and not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", str(source.stream)):
        raise ValueError("the name of a webhook is of letters, digits, '.', '_', '-', at most 64")
    user, at, _ = str(source.url or "").partition("://")[2].rpartition("@")
    if at and user.partition(":")[2] and not FROM_ENVIRONMENT.fullmatch(user.partition(":")[2]):
        raise ValueError("`url` holds a password; write ${NAME} in its place and export NAME")
    for name, value in source.options.items():
        secret = re.search(r"password|secret|\.pem$|oauthbearer\.config", name)
        if secret and not FROM_ENVIRONMENT.fullmatch(value):
            raise ValueError(f'options."{name}" holds a secret; write "${{NAME}}" and export NAME')
    if source.table in WHOLE_FILES:
        raise ValueError(f"{source.table} are whole files and come from a folder, by `path`")
    if source.path:
        raise ValueError(f'a source with format = "{form}" has no `path`')


class CleanSettings(Section):
    """What counts as the same, as impossible, and as a robot."""

    same_event_seconds: float = 2.0
    """the same user, item, kind (and quantity) again within this time is one event, sent twice"""
    max_dwell_ms: int = 6 * 3600 * 1000
    """a longer stay is a page left open: dwell is set to null (repaired), the event stays"""
    max_price_minor: int = 100_000_000
    """a higher price is impossible"""
    max_price_ratio: float = Field(50.0, ge=0)
    """so is paying this many times the item's own price a piece (a wrong unit); 0 switches it off"""
    future_minutes: float = 10.0
    """an event further in the future than this (clock skew) is quarantined"""
    earliest: str = "1995-01-01"
    """an event before this date (or time; UTC where it has no offset) is quarantined"""
    bot_events_per_hour: int = 600
    """a user with more events than this in some hour is a robot"""
    bot_regularity: float = Field(0.1, ge=0)
    """... or one of > 50 acts whose pauses vary less than this (spread / median); people's pauses
    vary by half and more"""
    bot_items_per_day: int = Field(1500, ge=1)
    """... or one who goes through more different items than this in a day"""
    add_from_rows: int = Field(1_000_000, ge=0)
    """from so many events on, a run cleans the new ones and adds them, and looks at those that are
    there only where they matter; below, it cleans all anew, which takes seconds"""
    unknown_items: Literal["quarantine", "keep"] = "quarantine"
    """events about an item that the item table lacks; without an item table all are kept"""

    @field_validator("earliest")
    @classmethod
    def _an_instant(cls, value: str) -> str:
        try:
            datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f"{value!r} is no date; write e.g. '2020-01-31'") from error
        return value

    @property
    def first(self) -> datetime:
        """`earliest` as an instant."""
        told = datetime.fromisoformat(self.earliest)
        return told.astimezone(UTC) if told.tzinfo else told.replace(tzinfo=UTC)


class IdentityKey(Section):
    """One key by which user ids are known to be one person."""

    source: str = Field(alias="from", pattern=r"^(users|events)\.[a-z_]+(\.[^'\]]+)?$")
    """where it stands: "users.attributes.email", "users.region", "events.session_id" """
    normalise: Literal["exact", "lower", "email", "phone", "name"] = "exact"
    """what is compared: the text as it is, in small letters, or as that kind of thing is written"""
    country: str | None = Field(None, pattern=r"^[1-9]\d{0,3}$")
    """phone only: the code that numbers without one are of, e.g. "86" """
    weight: float = Field(1.0, gt=0, le=1)
    """1 (strong): links alone; less (weak): only with others, up to a sum of 1"""
    max_users: int = Field(5, ge=2, le=100)
    """a value that more users have is shared by many people and links nobody"""
    veto: bool | None = None
    """users with different values of it are different people; default: of strong keys of `users`"""
    typos: bool = False
    """values that one typing error makes of each other do not veto, and count half the weight"""
    ignore: tuple[str, ...] = ()
    """values that say nothing, e.g. "000000" """

    @property
    def vetoes(self) -> bool:
        """Whether different values speak against a link."""
        strong = self.weight >= 1 and self.source.startswith("users.")
        return strong if self.veto is None else self.veto


class IdentitySettings(Section):
    """Several user ids (web, app, service desk) that are one person. Without keys: off."""

    keys: dict[str, IdentityKey] = Field(default_factory=dict)
    """a name of your own -> where the key stands and how it is compared"""
    max_ids: int = Field(20, ge=2)
    """a person has no more user ids than this"""


class FeatureSettings(Section):
    max_length: int = 200
    """events of a user's history that models see, newest last"""
    kinds: tuple[str, ...] = ("view", "favorite", "cart", "purchase", "review", "share")
    """kinds that enter sequences"""

    @field_validator("kinds")
    @classmethod
    def _known_kinds(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known_kinds(value)
        return value


class SplitSettings(Section):
    """The primary split is by time, one global instant for all users."""

    by: Literal["time", "leave_one_out", "auto"] = "auto"
    """auto: time where events have times, else leave_one_out (file order is the order)"""
    test_share: float = Field(0.1, gt=0, lt=0.5)
    """share of the newest events kept for the test"""
    validation_share: float = Field(0.1, gt=0, lt=0.5)
    """share of the events before those, kept for choosing"""
    exclude_seen: bool | None = None
    """whether items a user already had may not be recommended in the test. Default: they may in a
    split by time (people buy again), they may not in leave_one_out (as in the papers)"""


class TrainingSettings(Section):
    """What every model is told; a model passes over what it does not know."""

    seed: int = 42
    """same data, code, seed and threads give the same weights"""
    threads: int = Field(2, ge=1)
    """set on purpose: more threads than cores cost time"""
    workers: int = Field(1, ge=1)
    """processes that learn one model of sequences together, each a share of the batches of a step
    (its `accumulate`, at least as many); pays where each has cores of its own"""
    dim: int = 64
    """width of a neural model"""
    layers: int = 2
    """depth of a neural model"""
    heads: int = 2
    """attention heads"""
    dropout: float = 0.3
    """share of values dropped while learning; more for smaller shops"""
    learning_rate: float = 1e-3
    """step size of the optimiser"""
    max_epochs: int = 40
    """passes over the data at most"""
    patience: int = 4
    """epochs without a better validation NDCG@10 before training stops"""
    max_minutes: float = 60.0
    """training a model stops (and keeps its best epoch) after this long"""
    refit: bool = True
    """after the test, fit again on all events for as many epochs as were best: what is served
    knows the newest items; what is measured never saw the test"""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """a model's own settings, e.g. [training.options.ease] regularisation = 200"""


class ServingSettings(Section):
    exploration: float = Field(0.02, ge=0, le=0.5)
    """share of answers in which one slot shows an unranked candidate; 0 switches it off"""
    cache_answers: int = 10_000
    """answers kept in memory, keyed by (user state, release); 0 switches the cache off"""
    max_k: int = 100
    history: int = 200
    """events kept per user online"""
    rollback_error_rate: float = Field(0.05, gt=0, le=1)
    """share of failed answers (of the newest 200, at least 100) at which a new release is rolled back by itself"""
    deadline_ms: float = Field(250.0, gt=0)
    """models that take longer than this leave the answer to the floor, which says degraded"""
    threads: int = Field(2, ge=1)
    """answers computed at the same time in one worker; others wait their turn"""


class GateSettings(Section):
    metric: str = "NDCG@10"
    tolerance: float = 0.02
    """a release may be worse than the current one by this share of the metric (noise)"""


class LineageSettings(Section):
    """Whom runs are told to, as OpenLineage events. Without either: nobody."""

    url: str | None = Field(None, pattern=r"^https?://\S+$")
    """an endpoint that takes posted events, e.g. "http://localhost:5000/api/v1/lineage"; what it does
    not take waits in the catalogue and goes out after the next run"""
    file: str | None = None
    """a file, relative to the workspace, that events are added to, one a line"""
    namespace: str = "shopkeeper"
    """what jobs and datasets are called under there"""

    @property
    def targets(self) -> tuple[str, ...]:
        """Both, as far as they are named."""
        return tuple(target for target in (self.url, self.file) if target)


class ScheduleSettings(Section):
    retrain_minutes: float = 24 * 60.0
    """models older than this retrain on the next scheduled run; new events show without it"""
    stale_minutes: float | None = Field(None, gt=0)
    """when nothing new came in for longer than this, the shop counts as stale; default: never"""
    tidy_hours: float = Field(24.0, ge=0)
    """so often a scheduled run also gives up old versions and frees the disk; 0: never"""
    keep_versions: int = Field(10, ge=1)
    """of each asset, newest first, kept whatever their age"""
    keep_days: float = Field(30.0, ge=0)
    """younger versions are kept as well, and always what a release on disk or a kept model stands on"""
    webhook: str | None = None
    """told about failures and staleness, once each, and when they are over"""
    webhook_form: Literal["generic", "dingtalk", "wecom"] = "generic"


Bounds = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]


class LoopSettings(Section):
    """What comes back from serving, as data quality. Bounds are [warning, error]; an error bound below
    the warning's means that small values are bad."""

    days: float = Field(30.0, gt=0)
    """answers and events of so many days before the newest answer are looked at"""
    replay: int = Field(100, ge=0)
    """newest recommendations that are computed again to compare training with serving; 0: none"""
    examination: Bounds = (0.2, 0.05)
    """of searches and of recommendations: how often the deepest place with clicks is looked at, relative to
    the first; below, the end of a list teaches little"""
    exposure_gini: Bounds = (0.9, 0.98)
    """inequality of showings over the catalogue: above, models learn only about what they show already"""
    never_shown: Bounds = (0.5, 0.9)
    """share of the catalogue that no answer showed: nobody can click on what nobody saw"""
    unjoined: Bounds = (0.5, 0.95)
    """share of answers without any event: above, pages do not send answer_id back, or not what is seen"""
    bots: Bounds = (0.2, 0.5)
    """share of events by robots: cleaning keeps them out, but above, something crawls the shop"""
    skew: Bounds = (0.0, 0.01)
    """share of answers that come out otherwise when computed again: any at all is a defect"""
    drift: Bounds = (0.1, 0.25)
    """stability index of a feature, training beside live: above, models meet what they were not taught"""


class ValueSettings(Section):
    """What each asset and column is worth, by leaving it out (docs/value.md)."""

    every_hours: float = Field(0.0, ge=0)
    """a scheduled run (run --every) measures anew when the last measuring is older than this, 24 say;
    0: only when asked, as it costs minutes"""
    max_minutes: float = Field(10.0, gt=0)
    """measuring stops here; what was longest unmeasured comes first the next time"""
    people: int = Field(2000, ge=50)
    """people of the test (and as many of the validation, to fit on), drawn at random where there are more"""
    seeds: int = Field(3, ge=1)
    """fits of each measuring on people drawn anew, so that intervals know how much a fit varies"""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """of the intervals"""


class AlertSettings(Section):
    """Who is told when a rule newly breaks, and when it is well again. Without a hook: off."""

    webhook: str | None = None
    """gets a POST of one JSON object a table: what newly failed, what recovered; no value of a row"""
    command: tuple[str, ...] = ()
    """gets the same on standard input, e.g. ["python", "tell.py"]; run in the workspace, no shell"""
    level: Literal["error", "warning"] = "warning"
    """error: only what is quarantined or stops a run; warning: broken promises that warn as well"""

    @property
    def hooks(self) -> tuple[str, ...]:
        """Names of the hooks there are."""
        return ("webhook",) * bool(self.webhook) + ("command",) * bool(self.command)


class Settings(Section):
    """A whole shop.toml."""

    name: str = "my shop"
    currency: str = Field("CNY", min_length=3, max_length=3)
    minor_units: int = Field(100, ge=1)
    """minor units in one major unit of the currency (100 fen = 1 yuan; 1 for JPY)"""
    timezone: str = "UTC"
    """of times that carry no offset"""
    buckets: int = Field(16, ge=1, le=1024)
    """user-hash buckets of tables about users; fixed for the life of a workspace"""
    catalog: str | None = None
    """postgresql://user:password@host/database: where the catalogue stands, one database (or search_path)
    a shop; ${NAME} is read from the environment. Default: SQLite, in store/catalog.db"""
    lake: str = Field("", pattern=r"^((s3|gs|az)://[^/\s]+/\S+)?$")
    """s3://bucket/prefix (gs://, az://): where tables lie, one prefix a shop; credentials come from the
    environment (AWS_…). Default: in store/lake. An existing shop moves: shopkeeper lake --move"""
    lake_copies_gb: float = Field(50.0, gt=0)
    """of a lake in a bucket, so much is kept on this disk; what nobody asked for the longest goes first"""
    engine: str = Field("local", pattern=r"^(local|ray|ray://[^/:]+:\d+)$")
    """who works on the buckets: "local" this machine, "ray" a Ray on it (or the cluster that RAY_ADDRESS
    names), "ray://host:port" a Ray cluster; what comes out is the same to the byte"""
    workers: int = Field(1, ge=1, le=1024)
    """buckets worked on at a time, each in a process of its own with memory of its own; 1 (local) is
    this process, where Polars uses all cores of one machine already"""
    models: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "popularity",
        "item_knn",
        "sequence_knn",
        "ease",
        "transformer",
    )
    """built-in names, or "package.module:Class" for your own"""
    sources: tuple[Source, ...] = ()
    """tables that no source names: the plain shape, user_behavior.* and item_data.* (users.*, shops.*,
    images/) in raw/ or in the workspace itself"""
    clean: CleanSettings = CleanSettings()
    identity: IdentitySettings = IdentitySettings()
    features: FeatureSettings = FeatureSettings()
    split: SplitSettings = SplitSettings()
    training: TrainingSettings = TrainingSettings()
    serving: ServingSettings = ServingSettings()
    gate: GateSettings = GateSettings()
    lineage: LineageSettings = LineageSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    alerts: AlertSettings = AlertSettings()
    loop: LoopSettings = LoopSettings()
    value: ValueSettings = ValueSettings()

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        known_zone(value)
        return value

    @field_validator("sources")
    @classmethod
    def _one_signature(cls, value: tuple[Source, ...]) -> tuple[Source, ...]:
        known: dict[str, Signature | None] = {}
        for source in value:
            if source.format == "webhook" and not source.skip:
                name = str(source.stream)
                if known.setdefault(name, source.signature) != source.signature:
                    raise ValueError(
                        f"two blocks of the webhook {name!r} have different signatures"
                    )
        return value


def known_zone(name: str) -> ZoneInfo:
    """The time zone called `name`; ValueError names the nearest known one."""
    if name not in available_timezones():
        near = difflib.get_close_matches(name, available_timezones(), n=1)
        raise ValueError(
            f"no time zone {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        )
    return ZoneInfo(name)


def known_kinds(kinds: Iterable[str]) -> None:
    """ValueError for a word that is no event kind; it names the nearest."""
    for kind in kinds:
        if kind not in KIND_CODES:
            near = difflib.get_close_matches(kind, KIND_CODES, n=1)
            known = f"known: {', '.join(KIND_CODES)}"
            raise ValueError(
                f"{kind!r} is no event kind; " + (f"did you mean {near[0]!r}?" if near else known)
            )


def load(folder: Path) -> Settings:
    """Read `folder`/shop.toml. NotFound without one; InputError names the key and the reason."""
    path = folder / "shop.toml"
    if not path.exists():
        raise NotFound(
            "no shop.toml here",
            where=str(folder),
            next=f"make one with: shopkeeper init {folder}",
        )
    again = "correct it, then run again"
    data = path.read_bytes()
    try:
        return Settings.model_validate(tomllib.loads(data.decode()))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            "this line is not utf-8", where=f"{path}:{line}", next="save the file as utf-8"
        ) from error
    except tomllib.TOMLDecodeError as error:
        what, line = _syntax(str(error), data.decode())
        text = data.decode().splitlines()[line - 1 : line]
        shown = f"; the line is: {text[0].strip()[:80]}" if text and text[0].strip() else ""
        raise InputError(
            f"no valid TOML: {what}{shown}", where=f"{path}:{line}", next=again
        ) from error
    except ValidationError as error:
        raise InputError(_explain(error), where=str(path), next=again) from error


def _syntax(message: str, text: str) -> tuple[str, int]:
    """What tomllib found, and the line: "Invalid value (at line 3, column 9)" or "(at end of document)"."""
    what, _, place = message.partition(" (at ")
    number = re.match(r"line (\d+), column (\d+)", place)
    if number is None:
        return f"{what}, where the file ends", max(1, len(text.splitlines()))
    return f"{what}, in column {number[2]} or the line above", int(number[1])


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        text = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            known = _keys_beside(problem["loc"])
            near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
            text = "unknown key" + (f"; did you mean {near[0]!r}?" if near else f"; known: {known}")
        elif isinstance(value := problem["input"], str | int | float):
            where += f" = {json.dumps(value, ensure_ascii=False)[:60]}"
        lines.append(f"{where}: {text[:1].lower() + text[1:]}" if where else text)
    return "; ".join(lines)


def _keys_beside(loc: tuple[Any, ...]) -> list[str]:
    """Known keys of the section that the last part of `loc` stands in."""
    section: type[BaseModel] = Settings
    for part in loc[:-1]:
        if isinstance(part, int) or section is IdentityKey:  # which one it is of several
            continue
        found: Any = {"sources": Source, "when": When, "keys": IdentityKey}.get(str(part))
        found = found or section.model_fields[str(part)].annotation
        if isinstance(found, type) and issubclass(found, BaseModel):
            section = found
    return sorted(field.alias or name for name, field in section.model_fields.items())
