"""evaluations.* -> reports.leaderboard: the table, its plot, the curves of every epoch."""

import json
from pathlib import Path

from shopkeeper.assets.lineage import ROWS, Derivation
from shopkeeper.engine.steps import Context
from shopkeeper.evaluation import plot
from shopkeeper.evaluation.leaderboard import as_json, leaderboard
from shopkeeper.evaluation.trial import asset_name, line, read_evaluation

BOARD = "leaderboard.parquet"


def compare(context: Context) -> None:
    """Every trained model beside the others, on the shop's primary split."""
    run, settings = context.run, context.settings
    entries, curves, facts = [], {}, []
    for spelling in settings.models:
        name = asset_name(spelling)
        if not run.has(f"evaluations.{name}"):
            continue
        about, evaluation, _ = read_evaluation(run.folder(f"evaluations.{name}"))
        entries.append(line(about, evaluation))
        facts.append(about)
        if about["card"].get("curve"):
            curves[name] = about["card"]["curve"]
    board = leaderboard(entries, primary=settings.gate.metric)
    told = {
        "leaderboard": as_json(board),
        "groups": {about["model"]: about["evaluation"]["groups"] for about in facts},
        "split": facts[0]["split"],
        "exclude_seen": facts[0]["evaluation"]["exclude_seen"],
        "curves": curves,
        "cards": {about["model"]: about["card"] for about in facts},
    }

    def fill(folder: Path) -> None:
        text = json.dumps(told, indent=1, ensure_ascii=False, default=str)
        (folder / "leaderboard.json").write_text(text + "\n", encoding="utf-8")
        board.write_csv(folder / "leaderboard.csv")
        board.write_parquet(folder / BOARD)
        for lang in ("en", "zh"):
            (folder / f"leaderboard.{lang}.svg").write_text(plot.bars(board, lang=lang), "utf-8")
            if curves:
                (folder / f"curves.{lang}.svg").write_text(plot.curves(curves, lang=lang), "utf-8")

    run.files(
        "reports.leaderboard", fill, kind="report", description="all models on the primary split"
    )
    run.derive(
        "reports.leaderboard", Derivation({ROWS: [(name, ROWS) for name in run.lineage.read]})
    )
    run.note("best", board["model"][0])
