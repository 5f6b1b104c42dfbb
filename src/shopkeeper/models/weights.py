"""How models are kept: one safetensors file of arrays and one JSON file of everything else.

Nothing else is ever written or read, so that loading a model can never run foreign code.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from safetensors.numpy import load_file, save_file

from shopkeeper.errors import InputError, NotReady
from shopkeeper.features.sequences import Floats
from shopkeeper.models.calibration import Calibration

Arrays = dict[str, npt.NDArray[Any]]
WEIGHTS = "weights.safetensors"
ABOUT = "about.json"


def write(folder: Path, arrays: Arrays, about: dict[str, Any]) -> None:
    """Write `arrays` and the JSON-able `about` into `folder`, which exists."""
    save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, folder / WEIGHTS)
    text = json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / ABOUT).write_text(text + "\n", encoding="utf-8")


def read(folder: Path) -> tuple[Arrays, dict[str, Any]]:
    """What `write` wrote. NotReady where it is missing, InputError where it is damaged."""
    for name in (WEIGHTS, ABOUT):
        if not (folder / name).exists():
            raise NotReady(
                f"no {name}", where=str(folder), next="train the model with: shopkeeper train"
            )
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        return load_file(folder / WEIGHTS), about
    except Exception as error:  # safetensors raises its own type, json another
        raise InputError(
            f"these model files are damaged: {error}",
            where=str(folder),
            next="train the model again with: shopkeeper train --force",
        ) from error


def empty_matrix() -> sp.csr_array:
    """A (0, 0) matrix: what a model has before `fit`."""
    return sp.csr_array(sp.coo_array(np.zeros((0, 0), dtype=np.float32)))


def of_matrix(name: str, matrix: sp.csr_array) -> Arrays:
    """A sparse (M, M) matrix as three arrays."""
    return {
        f"{name}.data": matrix.data.astype(np.float32),
        f"{name}.indices": matrix.indices.astype(np.int32),
        f"{name}.indptr": matrix.indptr.astype(np.int64),
    }


def to_matrix(name: str, arrays: Arrays, shape: tuple[int, int]) -> sp.csr_array:
    """The matrix that `of_matrix` took apart."""
    parts = (arrays[f"{name}.data"], arrays[f"{name}.indices"], arrays[f"{name}.indptr"])
    return sp.csr_array(parts, shape=shape)


class Linear(Protocol):
    """A model that is one item-to-item matrix."""

    config: Any  # a dataclass
    card: dict[str, Any]
    shares: Floats  # (M,)
    calibration: Calibration


L = TypeVar("L", bound=Linear)


def write_linear(folder: Path, model: Linear, name: str, matrix: sp.csr_array) -> None:
    """Write `model` with its (M, M) `matrix` under `name`."""
    about = {
        "config": asdict(model.config),
        "calibration": model.calibration.as_dict(),
        "card": model.card,
    }
    write(folder, {"shares": model.shares, **of_matrix(name, matrix)}, about)


def read_linear(
    folder: Path, kind: Callable[[Any], L], config: Callable[..., Any], name: str
) -> tuple[L, sp.csr_array]:
    """The model and the matrix that `write_linear` wrote."""
    arrays, about = read(folder)
    model = kind(config(**about["config"]))
    model.card = about["card"]
    model.calibration = Calibration(**about["calibration"])
    model.shares = arrays["shares"]
    return model, to_matrix(name, arrays, (len(model.shares),) * 2)
