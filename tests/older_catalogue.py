"""What takes a catalogue back to the first schema, for tests that bring it up to date again."""

OLD = (  # what a catalogue of the first schema lacks
    *(f"DROP INDEX {name}" for name in ("versions_visible", "run_inputs_read", "run_outputs_made")),
    "ALTER TABLE versions DROP COLUMN branch",
    "ALTER TABLE versions DROP COLUMN files",
    "ALTER TABLE versions DROP COLUMN removed_at",
    "ALTER TABLE runs DROP COLUMN branch",
    *(f"DROP TABLE {name}" for name in ("branches", "branch_heads", "merged_files")),
    "PRAGMA user_version=1",
)
