"""The tables of the catalogue, in SQLAlchemy Core: one schema for every database it may stand in.

A new table needs nothing more than to stand here: it is made when a catalogue without it is opened. A
new index of a table that is out there is made when the version goes up; a new column needs its line in
UPGRADES as well.
"""

import sqlalchemy as sa

SCHEMA_VERSION = 3
UPGRADES = {  # to schema version: what an older catalogue lacks; new tables, indexes are made anyway
    2: (
        "ALTER TABLE versions ADD COLUMN branch VARCHAR",
        "ALTER TABLE versions ADD COLUMN files JSON",
        "ALTER TABLE versions ADD COLUMN removed_at VARCHAR",
        "ALTER TABLE runs ADD COLUMN branch VARCHAR",
    ),
    3: (  # wider ones take their place
        "DROP INDEX IF EXISTS ix_run_inputs_version_id",
        "DROP INDEX IF EXISTS ix_run_outputs_version_id",
        "DROP INDEX IF EXISTS ix_column_maps_run_id",
    ),
}

METADATA = sa.MetaData()

assets = sa.Table(
    "assets",
    METADATA,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column(
        "kind", sa.String, nullable=False
    ),  # table | model | index | report | release | files
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("description", sa.String, nullable=False),
    sa.Column("grade", sa.String, nullable=False),
    sa.Column("contract", sa.String),
    sa.Column("current", sa.String),  # id of the current version
    sa.Column("created_at", sa.String, nullable=False),
)
versions = sa.Table(
    "versions",
    METADATA,
    sa.Column("id", sa.String, primary_key=True),  # "<asset>@<number>"
    sa.Column("asset", sa.String, nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("delta_version", sa.Integer),  # tables only
    sa.Column("schema", sa.JSON, nullable=False),
    sa.Column("rows", sa.BigInteger),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("contract_version", sa.String),
    sa.Column("quality", sa.JSON),
    sa.Column("notes", sa.JSON, nullable=False),
    sa.Column("run_id", sa.String, nullable=False, index=True),
    sa.Column("created_at", sa.String, nullable=False),
    sa.Column("branch", sa.String),  # id of the branch it is in; null: the main line
    sa.Column("files", sa.JSON(none_as_null=True)),  # data files of a table in a branch
    sa.Column("removed_at", sa.String),  # its data is given up; the record stays
    sa.UniqueConstraint("asset", "number"),
    sa.Index("versions_visible", "id", "branch"),  # rows are wide: walks need not read them
)
runs = sa.Table(
    "runs",
    METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("step", sa.String, nullable=False, index=True),
    sa.Column("key", sa.String, nullable=False, index=True),
    sa.Column("code_digest", sa.String, nullable=False),
    sa.Column("git_commit", sa.String),
    sa.Column("git_dirty", sa.Boolean),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("notes", sa.JSON, nullable=False),
    sa.Column("started_at", sa.String, nullable=False),
    sa.Column("finished_at", sa.String),
    sa.Column("outcome", sa.String, nullable=False),  # running | done | failed
    sa.Column("error", sa.String),
    sa.Column("seconds", sa.Float),
    sa.Column("cpu_seconds", sa.Float),
    sa.Column("peak_rss_mb", sa.Float),
    sa.Column("branch", sa.String),
)
run_inputs = sa.Table(
    "run_inputs",
    METADATA,
    sa.Column("run_id", sa.String, primary_key=True),
    sa.Column("version_id", sa.String, primary_key=True),
    sa.Index("run_inputs_read", "version_id", "run_id"),
)
run_outputs = sa.Table(
    "run_outputs",
    METADATA,
    sa.Column("run_id", sa.String, primary_key=True),
    sa.Column("version_id", sa.String, primary_key=True),
    sa.Index("run_outputs_made", "version_id", "run_id"),
)
positions = sa.Table(  # how far each source file was read
    "positions",
    METADATA,
    sa.Column("asset", sa.String, primary_key=True),
    sa.Column("source", sa.String, primary_key=True),
    sa.Column("file", sa.String, primary_key=True),
    sa.Column("position", sa.JSON, nullable=False),
    sa.Column("settings", sa.String, nullable=False),  # digest of the mapping it was read under
    sa.Column("staged", sa.Boolean, nullable=False),  # True: read, but not in a version yet
)
staged_files = sa.Table(  # data files written and synced, but not in a version yet
    "staged_files",
    METADATA,
    sa.Column("asset", sa.String, primary_key=True),
    sa.Column("path", sa.String, primary_key=True),
    sa.Column("settings", sa.String, nullable=False),
    sa.Column("file", sa.JSON, nullable=False),
)
merged_files = sa.Table(  # data files that a compaction made of smaller ones
    "merged_files",
    METADATA,
    sa.Column("asset", sa.String, primary_key=True),
    sa.Column("path", sa.String, primary_key=True),
    sa.Column(
        "parts", sa.JSON, nullable=False
    ),  # [bucket, digest, rows] of files as runs made them
    sa.Column("sources", sa.JSON, nullable=False),  # paths of the files it took the place of
    sa.Column("created_at", sa.String, nullable=False),
)
fixed = sa.Table(  # settings that hold for the life of the workspace
    "fixed",
    METADATA,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.JSON, nullable=False),
)
branches = sa.Table(
    "branches",
    METADATA,
    sa.Column("id", sa.String, primary_key=True),  # never used again, as names may be
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("created_at", sa.String, nullable=False),
)
branch_heads = sa.Table(  # what is current in a branch
    "branch_heads",
    METADATA,
    sa.Column("branch", sa.String, primary_key=True),
    sa.Column("asset", sa.String, primary_key=True),
    sa.Column("version_id", sa.String, nullable=False),
    sa.Column("base_id", sa.String),  # what main had when the branch first wrote the asset
    sa.Column("about", sa.JSON, nullable=False),
)
column_maps = sa.Table(  # from which columns the columns of a version were made
    "column_maps",
    METADATA,
    sa.Column("version_id", sa.String, primary_key=True),
    sa.Column("asset", sa.String, nullable=False),
    sa.Column("run_id", sa.String, nullable=False),  # the newest run that made it
    sa.Column("map", sa.String, nullable=False, index=True),  # equal maps are stored once
    sa.Index("column_maps_made", "run_id", "version_id"),
)
column_edges = sa.Table(  # of a map; column "*" of an asset: which rows there are
    "column_edges",
    METADATA,
    sa.Column("map", sa.String, primary_key=True),
    sa.Column("to_column", sa.String, primary_key=True),
    sa.Column("from_asset", sa.String, primary_key=True),
    sa.Column("from_column", sa.String, primary_key=True),
    sa.Column("to_asset", sa.String, nullable=False),
    sa.Column("how", sa.String, nullable=False),  # copied | computed | rows | read
    sa.Index("column_edges_from", "from_asset", "from_column", "to_asset"),
)
external_edges = sa.Table(  # what other systems told of their datasets (OpenLineage)
    "external_edges",
    METADATA,
    sa.Column("from_asset", sa.String, primary_key=True),
    sa.Column("to_asset", sa.String, primary_key=True, index=True),
    sa.Column("job", sa.String, primary_key=True),
    sa.Column("run", sa.String, nullable=False),  # the newest that told it
    sa.Column("told_at", sa.String, nullable=False),
)
lineage_outbox = sa.Table(  # OpenLineage events that an endpoint has not taken yet
    "lineage_outbox",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("target", sa.String, nullable=False),
    sa.Column("event", sa.String, nullable=False),  # JSON
    sa.Column("queued_at", sa.String, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("error", sa.String),
)
profiles = sa.Table(  # what stands in the columns of a version
    "profiles",
    METADATA,
    sa.Column("version_id", sa.String, primary_key=True),
    sa.Column("profile", sa.JSON, nullable=False),
    sa.Column("created_at", sa.String, nullable=False),
)
version_states = sa.Table(  # what a step must know of a version to add to it
    "version_states",
    METADATA,
    sa.Column("version_id", sa.String, primary_key=True),
    sa.Column("state", sa.LargeBinary, nullable=False),  # JSON, zlib
)
descriptions = sa.Table(  # what people say of an asset (column "") or of one of its columns
    "descriptions",
    METADATA,
    sa.Column("asset", sa.String, primary_key=True),
    sa.Column("column", sa.String, primary_key=True),
    sa.Column("description", sa.String),
    sa.Column("owner", sa.String),
    sa.Column("grade", sa.String),  # counts where it is stricter than what the contract says
    sa.Column("tags", sa.JSON(none_as_null=True)),
    sa.Column("terms", sa.JSON(none_as_null=True)),  # of the glossary
    sa.Column("fresh_hours", sa.Float),
    sa.Column("told_at", sa.String, nullable=False),
)
glossary = sa.Table(
    "glossary",
    METADATA,
    sa.Column("term", sa.String, primary_key=True),
    sa.Column("definition", sa.String, nullable=False),
    sa.Column("synonyms", sa.JSON, nullable=False),
    sa.Column("told_at", sa.String, nullable=False),
)
search_documents = sa.Table(  # what is in the index of an asset, to see whether it changed
    "search_documents",
    METADATA,
    sa.Column("asset", sa.String, primary_key=True),
    sa.Column("digest", sa.String, nullable=False),
)
search_postings = sa.Table(
    "search_postings",
    METADATA,
    sa.Column("word", sa.String, primary_key=True),
    sa.Column("asset", sa.String, primary_key=True, index=True),
    sa.Column("weight", sa.Float, nullable=False),
    sa.Index("search_postings_best", "word", "weight", "asset"),
    sqlite_with_rowid=False,
)
search_words = sa.Table(
    "search_words",
    METADATA,
    sa.Column("word", sa.String, primary_key=True),
    sqlite_with_rowid=False,
)
search_grams = sa.Table(  # three letters in a row of a word, for words typed wrongly or half
    "search_grams",
    METADATA,
    sa.Column("gram", sa.String, primary_key=True),
    sa.Column("word", sa.String, primary_key=True),
    sqlite_with_rowid=False,
)
usage = sa.Table(  # who read what for which purpose, by day
    "usage",
    METADATA,
    sa.Column("asset", sa.String, primary_key=True),
    sa.Column("day", sa.String, primary_key=True),
    sa.Column("who", sa.String, primary_key=True),
    sa.Column("purpose", sa.String, primary_key=True),
    sa.Column("reads", sa.BigInteger, nullable=False),
    sa.Column("last_at", sa.String, nullable=False),
)

FILLS = {  # a table that is newer than the catalogue -> what it begins with there
    column_maps: (
        "INSERT INTO column_maps (version_id, asset, run_id, map) "
        "SELECT v.id, v.asset, coalesce((SELECT r.id FROM run_outputs o JOIN runs r ON r.id = o.run_id "
        "WHERE o.version_id = v.id AND r.outcome = 'done' AND r.step <> 'restore' "
        "ORDER BY r.started_at DESC LIMIT 1), v.run_id), '' FROM versions v",
    )
}
quality_log = sa.Table(  # what became of promises that no version tells: stopped runs, ages watched
    "quality_log",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("asset", sa.String, nullable=False, index=True),
    sa.Column("kind", sa.String, nullable=False),  # stopped | watched
    sa.Column("at", sa.String, nullable=False),
    sa.Column("run_id", sa.String),
    sa.Column("version_id", sa.String),
    sa.Column("report", sa.JSON, nullable=False),
)
contract_texts = sa.Table(  # contracts that tables were cleaned by
    "contract_texts",
    METADATA,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("base", sa.String, nullable=False),  # YAML of the built-in contract
    sa.Column("own", sa.String),  # YAML of the workspace's override
    sa.Column("first_at", sa.String, nullable=False),
)
contract_accepted = sa.Table(  # breaking changes that somebody said are meant
    "contract_accepted",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("before", sa.String, nullable=False),  # digest of the contract last cleaned by
    sa.Column("after", sa.String, nullable=False),  # and of the one it may become
    sa.Column("by", sa.String, nullable=False),
    sa.Column("at", sa.String, nullable=False),
)
rule_states = sa.Table(  # what alerts have told of each rule
    "rule_states",
    METADATA,
    sa.Column("asset", sa.String, primary_key=True),
    sa.Column("rule", sa.String, primary_key=True),
    sa.Column("level", sa.String, nullable=False),
    sa.Column("since", sa.String, nullable=False),
)
alert_outbox = sa.Table(  # alerts that a hook has not taken yet
    "alert_outbox",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("hook", sa.String, nullable=False),  # webhook | command
    sa.Column("alert", sa.JSON, nullable=False),
    sa.Column("queued_at", sa.String, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("error", sa.String),
)
