"""Neural models as ONNX graphs: exported, quantised to 8 bits, and run by ONNX Runtime.

A model that can be exported hands over what turns inputs into a state (`Traced`); the head, logits =
state x item table + bias, is added here, so that the table stands in the file once: looked up for
the events of a history and multiplied by to rank. With `int8` the table is kept in 8 bits with a
scale a row, and the products of the layers are quantised as well

    dynamic   weights now, activations by their own range at each call
    static    both now, activations by the range that calibration histories gave

ONNX Runtime is an extra: pip install 'shopkeeper[export]'.
"""

import importlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from shopkeeper.errors import InputError, NotReady
from shopkeeper.features.sequences import Floats

if TYPE_CHECKING:
    import onnx

Inputs = Mapping[str, npt.NDArray[Any]]
Bits = Literal["float", "dynamic", "static"]
FORMS: tuple[Bits, ...] = ("float", "dynamic", "static")
LOGITS = "logits"
TABLE = "table"  # the buffer of a traced module that holds the item table
SMALLEST_SCALE = 1e-12


@dataclass(frozen=True)
class Traced:
    """What a model hands over to be exported."""

    module: nn.Module  # (inputs) -> (B, D) states; its buffer `table` is the (M, D) item table
    example: dict[str, Tensor]  # inputs by name, in the order of `module.forward`
    moving: dict[str, dict[int, tuple[str, int, int]]]  # input -> axis -> (name, least, most)
    bias: Tensor  # (M,) added to the logits


@runtime_checkable
class Exportable(Protocol):
    """A model that can be exported; anything else is told to be not exportable."""

    runner: "Runner | None"  # computes logits in PyTorch's place, where it is set

    def traced(self) -> Traced: ...

    def feeds(self, histories: Any) -> Sequence[Inputs]:
        """Inputs of the graph for these histories, as `runner` gets them."""
        ...


class Runner:
    """A graph in ONNX Runtime: inputs by name -> (B, M) logits."""

    def __init__(self, graph: bytes | Path, threads: int = 1) -> None:
        ort = _library("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = ort.InferenceSession(
            str(graph) if isinstance(graph, Path) else graph,
            options,
            providers=["CPUExecutionProvider"],
        )

    def __call__(self, inputs: Inputs) -> Floats:
        (logits,) = self.session.run([LOGITS], dict(inputs))
        return np.asarray(logits, dtype=np.float32)


def to_onnx(model: Any, bits: Bits = "float", calibration: Sequence[Inputs] = ()) -> bytes:
    """`model` as one ONNX file: its inputs -> "logits", (B, M).

    Args:
        calibration: inputs that say how large activations get, for `static`.
    Raises:
        InputError: the model cannot be exported. NotReady: the libraries are not installed.
    """
    if not isinstance(model, Exportable):
        raise InputError(
            f"{type(model).__name__} cannot be exported; it has no `traced`",
            where="export",
            next="neural models can: transformer, rnn, sequence_cnn; see shopkeeper/models/export.py",
        )
    onnx = _library("onnx")
    traced = model.traced()
    graph = _traced_to_onnx(traced)
    if bits != "float":
        graph = _layers_in_8_bits(graph, bits, calibration)
    return bytes(onnx.ModelProto.SerializeToString(_with_head(graph, traced, int8=bits != "float")))


def _traced_to_onnx(traced: Traced) -> "onnx.ModelProto":
    _library("onnxscript")
    dims: dict[str, Any] = {}
    shapes: dict[str, dict[int, Any]] = {}
    for name, axes in traced.moving.items():
        shapes[name] = {}
        for axis, (called, least, most) in axes.items():
            dims.setdefault(called, torch.export.Dim(called, min=least, max=most))
            shapes[name][axis] = dims[called]
    with _quiet(), torch.inference_mode(False), torch.no_grad():
        program = torch.onnx.export(
            traced.module,
            tuple(traced.example.values()),
            dynamo=True,
            verbose=False,
            input_names=list(traced.example),
            output_names=["state"],
            dynamic_shapes=shapes,
            external_data=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    made = program.model_proto
    for node in made.graph.node:  # where in the source it came from: a third of a small file
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    for kept in (made.graph, made):
        kept.ClearField("metadata_props")
    made.graph.ClearField("value_info")
    return made


def _layers_in_8_bits(
    graph: "onnx.ModelProto", bits: Bits, calibration: Sequence[Inputs]
) -> "onnx.ModelProto":
    """Products of the layers in 8 bits; the item table is seen to by `_with_head`."""
    onnx, quantization = _library("onnx"), _library("onnxruntime.quantization")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, made = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        onnx.save(graph, str(plain))
        types = ["MatMul", "Gemm", "GRU", "LSTM"]
        if bits == "dynamic":
            quantization.quantize_dynamic(
                str(plain), str(made), op_types_to_quantize=types, per_channel=True
            )
        else:
            if not calibration:
                raise InputError("static quantisation needs histories to calibrate on")
            quantization.quantize_static(
                str(plain),
                str(made),
                _Reader(calibration),
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
            )
        return onnx.load(str(made))  # type: ignore[no-any-return]


class _Reader:
    """Calibration inputs, one after another, as ONNX Runtime asks for them."""

    def __init__(self, inputs: Sequence[Inputs]) -> None:
        self._left = iter(inputs)

    def get_next(self) -> dict[str, Any] | None:
        found = next(self._left, None)
        return None if found is None else dict(found)


def _with_head(graph: "onnx.ModelProto", traced: Traced, *, int8: bool) -> "onnx.ModelProto":
    """The graph with logits for its output, and the item table in it once."""
    onnx = _library("onnx")
    helper, numpy_helper, kinds = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    inner = graph.graph
    bias = traced.bias.detach().cpu().numpy().astype(np.float32)
    (table,) = [one for one in inner.initializer if one.name == TABLE]
    values = numpy_helper.to_array(table)
    rank = helper.make_tensor_value_info(LOGITS, kinds.FLOAT, ["users", len(values)])
    state = inner.output[0].name
    del inner.output[:]
    inner.output.append(rank)
    inner.initializer.append(numpy_helper.from_array(bias, "head.bias"))
    if not int8:
        inner.node.append(helper.make_node("Gemm", [state, TABLE, "head.bias"], [LOGITS], transB=1))
        return graph
    scale = np.maximum(np.abs(values).max(axis=1) / 127.0, SMALLEST_SCALE).astype(np.float32)
    small = np.clip(np.rint(values / scale[:, None]), -127, 127).astype(np.int8)
    inner.initializer.remove(table)
    constants = {
        TABLE: small,
        "head.scale": scale,
        "head.levels": np.float32(127.0),
        "head.least": np.float32(SMALLEST_SCALE),
        "head.middle": np.float32(128.0),
        "head.zero": np.uint8(128),
        "head.last": np.array([-1], dtype=np.int64),
    }
    for name, value in constants.items():
        inner.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    nodes = list(inner.node)
    del inner.node[:]
    for node in nodes:
        if TABLE not in node.input:
            inner.node.append(node)
            continue
        if node.op_type != "Gather":
            raise RuntimeError(f"the item table is used by {node.op_type}, not only looked up")
        (out,), rows = node.output, node.input[1]
        inner.node.extend(
            [
                helper.make_node("Gather", [TABLE, rows], [f"{out}.small"]),
                helper.make_node("Cast", [f"{out}.small"], [f"{out}.float"], to=kinds.FLOAT),
                helper.make_node("Gather", ["head.scale", rows], [f"{out}.scale"]),
                helper.make_node("Unsqueeze", [f"{out}.scale", "head.last"], [f"{out}.scales"]),
                helper.make_node("Mul", [f"{out}.float", f"{out}.scales"], [out]),
            ]
        )
    inner.node.extend(  # each row of states by its own range: a batch equals its rows here
        [
            helper.make_node("Abs", [state], ["head.size"]),
            helper.make_node("ReduceMax", ["head.size", "head.last"], ["head.largest"]),
            helper.make_node("Div", ["head.largest", "head.levels"], ["head.step"]),
            helper.make_node("Max", ["head.step", "head.least"], ["head.steps"]),
            helper.make_node("Div", [state, "head.steps"], ["head.in_steps"]),
            helper.make_node("Round", ["head.in_steps"], ["head.rounded"]),
            helper.make_node("Add", ["head.rounded", "head.middle"], ["head.shifted"]),
            helper.make_node("Cast", ["head.shifted"], ["head.bytes"], to=kinds.UINT8),
            helper.make_node("Transpose", [TABLE], ["head.turned"], perm=[1, 0]),
            helper.make_node(
                "MatMulInteger", ["head.bytes", "head.turned", "head.zero"], ["head.product"]
            ),
            helper.make_node("Cast", ["head.product"], ["head.float"], to=kinds.FLOAT),
            helper.make_node("Mul", ["head.float", "head.steps"], ["head.by_state"]),
            helper.make_node("Mul", ["head.by_state", "head.scale"], ["head.by_item"]),
            helper.make_node("Add", ["head.by_item", "head.bias"], [LOGITS]),
        ]
    )
    return graph


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what libraries say about themselves, such as that another one is not installed."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise NotReady(
            f"{error.name} is not installed",
            where="export",
            next="install it: pip install 'shopkeeper[export]'",
        ) from error
