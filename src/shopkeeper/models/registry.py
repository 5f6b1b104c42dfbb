"""The models there are, and a user's own by "package.module:Class"."""

import difflib
import hashlib
import importlib.machinery
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any, cast

from shopkeeper.errors import InputError, NotFound, NotReady
from shopkeeper.models.ease import Ease
from shopkeeper.models.ensemble import Ensemble
from shopkeeper.models.fusion import Fusion
from shopkeeper.models.gat import Gat
from shopkeeper.models.gcn import Gcn
from shopkeeper.models.gtn import Gtn
from shopkeeper.models.image_cnn import ImageCnn
from shopkeeper.models.item_knn import ItemKnn
from shopkeeper.models.popularity import Popularity
from shopkeeper.models.protocol import Model
from shopkeeper.models.rnn import Rnn
from shopkeeper.models.sequence_cnn import SequenceCnn
from shopkeeper.models.sequence_knn import SequenceKnn
from shopkeeper.models.transformer import Transformer

MODELS: dict[str, type[Model]] = {
    model.name: model
    for model in (
        Popularity,
        ItemKnn,
        SequenceKnn,
        Ease,
        Transformer,
        Rnn,
        SequenceCnn,
        Gcn,
        Gat,
        Gtn,
        ImageCnn,
        Fusion,
        Ensemble,
    )
}
NEEDED = ("name", "fit", "scores", "predict", "save", "load")
FILE = "model.json"


def resolve(name: str, folder: Path | None = None) -> type[Model]:
    """The class called `name`: a built-in name, or "package.module:Class".

    Args:
        folder: also looked in for a user's own modules (the workspace).
    Raises:
        NotFound: no such built-in name, module or class; InputError: the class is no Model.
    """
    if ":" not in name:
        if name in MODELS:
            return MODELS[name]
        near = difflib.get_close_matches(name, MODELS, n=1)
        raise NotFound(
            f"no model {name!r}; known: {', '.join(MODELS)}",
            where="models",
            next=f"did you mean {near[0]!r}?"
            if near
            else 'your own class is named "package.module:Class"',
        )
    module_name, _, class_name = name.partition(":")
    if folder is not None and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise NotFound(
            f"no module {module_name!r} for model {name!r} ({error})",
            where="models",
            next="put it beside shop.toml or install it into this environment",
        ) from error
    except SyntaxError as error:
        raise InputError(
            f"the module of model {name!r} is no valid Python: {error.msg}",
            where=f"{error.filename}:{error.lineno}",
            next="correct that line, then run again",
        ) from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise NotFound(
            f"module {module_name!r} has no class {class_name!r}; it has: {', '.join(classes)}",
            where="models",
        )
    missing = [part for part in NEEDED if not hasattr(found, part)]
    if missing:
        raise InputError(
            f"{name!r} is no model: it lacks {', '.join(missing)}",
            where="models",
            next="see shopkeeper/models/protocol.py for what a model has",
        )
    return cast(type[Model], found)


def takes_members(name: str) -> bool:
    """Whether the model called `name` is made of the other models of the shop."""
    return bool(getattr(MODELS.get(name), "takes_members", False))


def reads_pictures(name: str) -> bool:
    """Whether the model called `name` looks at what the image encoder saw."""
    return bool(getattr(MODELS.get(name), "reads_pictures", False))


def reads_ties(name: str) -> bool:
    """Whether the model called `name` learns from who follows whom."""
    return bool(getattr(MODELS.get(name), "reads_ties", False))


@cache
def source_digest(name: str, folder: Path) -> str | None:
    """Of the source of a user's own model: its module, or the whole package that it stands in.

    None for a built-in name (the house's own code is told elsewhere) and where there is no module.
    Taken once in a process: what is edited later is not the code that runs.
    """
    if ":" not in name:
        return None
    top = name.partition(":")[0].partition(".")[0]
    places = list(dict.fromkeys([str(folder), *sys.path]))
    found = importlib.machinery.PathFinder.find_spec(top, places)
    if found is None:
        return None
    packages = [Path(place) for place in found.submodule_search_locations or ()]
    paths = [path for place in packages for path in sorted(place.rglob("*.py"))]
    digest = hashlib.sha256()
    for path in paths or ([Path(found.origin)] if found.origin else []):
        digest.update(f"{path.name}={hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:32]


def spelling(model: Model) -> str:
    """The name by which `resolve` finds the class of `model` again."""
    kind = type(model)
    if MODELS.get(kind.name) is kind:
        return kind.name
    return f"{kind.__module__}:{kind.__qualname__}"


def save(model: Model, folder: Path) -> None:
    """Write `model` and the name of its class into `folder`, which exists."""
    model.save(folder)
    text = json.dumps({"model": spelling(model), "name": model.name}, indent=1)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def load(folder: Path, workspace: Path | None = None) -> Model:
    """The model that `save` wrote; NotReady where there is none."""
    path = folder / FILE
    if not path.exists():
        raise NotReady("no model here", where=str(folder), next="train one with: shopkeeper train")
    if workspace is not None and str(workspace) not in sys.path:
        sys.path.insert(0, str(workspace))  # a model may be made of a user's own ones
    about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return resolve(about["model"], workspace).load(folder)
