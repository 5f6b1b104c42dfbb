"""What is done with trained models: their cards, smaller forms, ONNX files, and the search for settings."""

from pathlib import Path
from typing import Annotated, Any

import typer

from shopkeeper.cli.root import app
from shopkeeper.cli.terminal import (
    HERE,
    Json,
    ShopDir,
    bars,
    number,
    out,
    print_json,
    stoppable,
    table,
    tell,
)
from shopkeeper.errors import InputError


@app.command()
def card(model: str, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """A trained model's run card: data, cost, how good it is and for whom, its limits."""
    from shopkeeper.evaluation.cards import as_markdown
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.card(model)
    if as_json:
        print_json(told)
    else:
        out.print(as_markdown(told), soft_wrap=True, markup=False)


@app.command("export")
def export_model(
    model: str,
    out_folder: Annotated[Path, typer.Option("--out", help="A folder for model.onnx.")],
    bits: Annotated[str, typer.Option(help="float, dynamic or static (8 bits).")] = "float",
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """A trained neural model as an ONNX file, compared with PyTorch before it is written.

    Example: shopkeeper export transformer --out exported --bits dynamic --shop myshop
    """
    from shopkeeper.models.export import FORMS
    from shopkeeper.shop import Shop

    chosen = next((one for one in FORMS if one == bits), None)
    if chosen is None:
        raise InputError(f"no form {bits!r}", where="--bits", next=f"there are: {', '.join(FORMS)}")
    with Shop.open(shop) as opened:
        told = opened.export_model(model, out_folder, chosen)
    tell(
        told, as_json,
        f"{told['files'][0]}: {told['bytes'] / 1e6:.2f} MB; scores differ from PyTorch's by at most "
        f"{told['largest_difference']:.2g}, the first item is the same for {told['same_first']:.1%}",
    )  # fmt: skip


@app.command()
def compress(model: str, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """A trained neural model in smaller forms (8 bits, pruned, distilled): bytes, milliseconds, quality."""
    from shopkeeper.evaluation.compression import HEADINGS
    from shopkeeper.evaluation.compression import table as rows_of
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened, stoppable(), bars(quiet=as_json) as report:
        told = opened.compress(model, report)
    if as_json:
        print_json(told)
    else:
        table(HEADINGS, rows_of(told))


@app.command()
def tune(
    model: str,
    method: Annotated[str, typer.Option(help="grid, random or tpe.")] = "tpe",
    trials: Annotated[int, typer.Option(min=1, help="In all, those of an earlier call too.")] = 20,
    space: Annotated[
        list[str] | None,
        typer.Option(help='Instead of the built-in one, e.g. "dropout=0.1:0.5", "heads=1|2|4".'),
    ] = None,
    minutes: Annotated[float, typer.Option(min=0, help="Begin no trial later; 0: no limit.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Trials at a time.")] = 1,
    ray: Annotated[
        str | None, typer.Option(help="auto (this machine), or a Ray cluster's address.")
    ] = None,
    bench: Annotated[str | None, typer.Option(help="A public benchmark instead of a shop.")] = None,
    data: Annotated[Path | None, typer.Option(help="With --bench: its folder.")] = None,
    log: Annotated[Path | None, typer.Option(help="With --bench: where trials are kept.")] = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Search a model's settings on validation, never on the test; what was stopped goes on.

    Example: shopkeeper tune transformer --method tpe --trials 20 --shop myshop
    """
    from shopkeeper.evaluation.tuning import METHODS

    chosen = next((one for one in METHODS if one == method), None)
    if chosen is None:
        raise InputError(f"no method {method!r}", where="--method", next=", ".join(METHODS))
    with stoppable(), bars(quiet=as_json) as report:
        if bench is not None:
            from shopkeeper.evaluation.workbench import tune_benchmark

            if data is None or log is None:
                raise InputError("--bench needs --data and --log", where="tune")
            told = tune_benchmark(
                bench, data, model, log, space=space or (), method=chosen, trials=trials,
                minutes=minutes, workers=workers, ray=ray,
                progress=lambda done, total, text: report(f"tune {model}", done, total, text),
            )  # fmt: skip
        else:
            from shopkeeper.shop import Shop

            with Shop.open(shop) as opened:
                told = opened.tune(
                    model, space=space or (), method=chosen, trials=trials, minutes=minutes,
                    workers=workers, ray=ray, report=report,
                )  # fmt: skip
    if as_json:
        print_json(told)
    else:
        _say_trials(told, model)


def _say_trials(told: dict[str, Any], model: str) -> None:
    from shopkeeper.evaluation.tuning import as_toml

    done = [row for row in told["trials"] if row["value"] is not None]
    table(
        ("trial", told["primary"], "state", "seconds", "settings"),
        (
            (
                str(row["trial"]),
                number(row["value"], ".4f"),
                row["state"],
                number(row["seconds"], ".1f"),
                ", ".join(
                    f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
                    for key, value in row["settings"].items()
                ),
            )
            for row in sorted(done, key=lambda row: -row["value"])[:10]
        ),
    )
    states = [row["state"] for row in told["trials"]]
    out.print(
        f"{len(states)} trials: {states.count('complete')} complete, "
        f"{states.count('pruned')} stopped early, {states.count('fail')} failed",
        soft_wrap=True,
    )
    if told["best"]:
        out.print("for shop.toml, if you want the best of them:")
        out.print(as_toml(model, told["best"]["settings"]), soft_wrap=True, markup=False)
