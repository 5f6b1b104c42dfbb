"""The image encoder: a convolutional network from a picture to a vector, learned on the shop's own pictures.

    stem       3x3 convolution, half the size                  (B, 3, S, S) -> (B, stem, S/2, S/2)
    stages     residual blocks, each stage after the first halves again: y = a(shortcut(x) + f(x)),
               f two convolutions, each normalised over the batch (ResNet: He et al., CVPR 2016;
               shortcut by average pooling: He et al., "Bag of Tricks", CVPR 2019)
    vector     mean over the places, of a picture and its mirror image, of length 1    (B, widths[-1])

What a vector should tell is read off linear heads, as far as the shop knows it: the item's category
(softmax), its attributes (yes or no each), and what it is taken together with (the direction of the
item's factors in the co-occurrence matrix: van den Oord et al., "Deep content-based music
recommendation", NeurIPS 2013). In place of learning from scratch a user's own weights of this
network (safetensors, or a state dict) can be the start, or any encoder in ONNX be used as it is.
"""

import hashlib
import inspect
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from shopkeeper.errors import InputError, NotReady
from shopkeeper.features.pictures import Pixels
from shopkeeper.features.sequences import Floats, Ints
from shopkeeper.models import weights
from shopkeeper.models.options import configure
from shopkeeper.models.protocol import Progress, no_progress
from shopkeeper.training.trainer import Plan, train

OPTIONS = "images"  # [training.options.images]: of the encoder, whichever models read its vectors
HEADS = ("category.", "attributes.", "together.")
BATCH = 128  # pictures encoded at a time
ONNX_FILE = "encoder.onnx"


@dataclass(frozen=True)
class Config:
    side: int = 64  # of the square that the network sees, in pixels
    kept: int = 96  # of the square that is cut from while learning
    sides: tuple[int, ...] = (48, 64)  # while learning: the same share of the epochs each
    stem: int = 32  # channels
    widths: tuple[int, ...] = (32, 64, 128, 256)  # channels of the stages
    blocks: int = 1  # of a stage
    convolution: str = "full"  # 3x3; "separable": 5x5 of each channel, then 1x1
    activation: str = "gelu"  # "relu", "silu"
    pooling: str = "stride"  # how a stage halves: every second place, "average" or "max" of 2x2
    epochs: int = 40
    batch: int = 64
    rate: float = 4e-3
    decay: float = 0.05
    smoothing: float = 0.1  # of the category, Szegedy et al. 2016
    crop: float = 0.35  # smallest share of the square that is cut out
    colour: float = 0.3  # largest change of brightness, contrast and saturation
    mirror: bool = True
    mixup: float = 0.0  # share of batches in which pictures are blended in pairs
    attributes: float = 0.5  # weight of this signal beside the category's 1
    together: float = 0.5
    learn_from: int = 20_000  # pictures at most, drawn by chance
    learning_threads: int = 1  # on a machine with other work a second one waits for the first
    weights: str = ""  # a file of this network's weights to start from
    frozen: bool = False  # learn the heads alone, on `weights` as they are
    onnx: str = ""  # an encoder to use as it is: (B, 3, side, side) float32 -> (B, vector)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # of red, green, blue in 0..1
    spread: tuple[float, ...] = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Signals:
    """What P pictures are known to show."""

    category: Ints  # (P,) row of `categories`; -1: unknown
    categories: list[str]
    attributes: Floats  # (P, A) of ones and zeros; a row of zeros: unknown
    together: Floats  # (P, K) rows of length 1; zeros: unknown

    @classmethod
    def of_categories(cls, category: Ints, categories: list[str]) -> "Signals":
        """Where nothing else is known."""
        none = np.zeros((len(category), 0), dtype=np.float32)
        return cls(category, categories, none, none)


class Convolution(nn.Sequential):
    def __init__(self, config: Config, given: int, made: int, stride: int) -> None:
        if config.convolution == "separable":
            deep = nn.Conv2d(given, given, 5, stride, 2, groups=given, bias=False)
            layers = [deep, nn.Conv2d(given, made, 1, bias=False)]
        else:
            layers = [nn.Conv2d(given, made, 3, stride, 1, bias=False)]
        super().__init__(*layers, nn.BatchNorm2d(made))


class Block(nn.Module):
    def __init__(self, config: Config, given: int, made: int, halve: bool) -> None:
        super().__init__()
        strided = halve and config.pooling == "stride"
        pool = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}.get(config.pooling)
        self.pool = pool(2) if halve and pool is not None else nn.Identity()
        self.activation = _activation(config.activation)
        self.first = Convolution(config, given, made, 2 if strided else 1)
        self.second = Convolution(config, made, made, 1)
        nn.init.zeros_(self.second[-1].weight)  # type: ignore[arg-type]
        self.shortcut: nn.Module = nn.Identity()
        if halve or given != made:
            straight = [nn.Conv2d(given, made, 1, bias=False), nn.BatchNorm2d(made)]
            self.shortcut = nn.Sequential(*([nn.AvgPool2d(2)] if strided else []), *straight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        deep = self.second(self.activation(self.first(x)))
        return self.activation(self.shortcut(x) + deep)  # type: ignore[no-any-return]


class Network(nn.Module):
    def __init__(self, config: Config, categories: int, attributes: int, together: int) -> None:
        super().__init__()
        stem = nn.Conv2d(3, config.stem, 3, 2, 1, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(config.stem), _activation(config.activation))
        blocks: list[nn.Module] = []
        given = config.stem
        for stage, made in enumerate(config.widths):
            for block in range(config.blocks):
                blocks.append(Block(config, given, made, stage > 0 and block == 0))
                given = made
        self.stages = nn.Sequential(*blocks)
        self.category = nn.Linear(given, max(1, categories))  # a head of nothing is left alone
        self.attributes = nn.Linear(given, max(1, attributes))
        self.together = nn.Linear(given, max(1, together))

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, V) of (B, 3, S, S)."""
        places: Tensor = self.stages(self.stem(pictures))  # (B, V, S', S')
        return places.mean(dim=(2, 3))


class Encoding(Protocol):
    """(B, 3, side, side) float32, normalised, to (B, V) float32."""

    def __call__(self, pictures: Tensor) -> Tensor: ...


class ImageEncoder:
    """From pixels to vectors, and to the probability of each category it has learned."""

    def __init__(self, config: Config = Config()) -> None:
        _check(config)
        self.config = config
        self.card: dict[str, Any] = {}
        self.categories: list[str] = []
        self.network: Network | None = None
        self._onnx: Any = None  # an onnxruntime.InferenceSession
        self._onnx_file: Path | None = None

    @classmethod
    def configured(cls, settings: dict[str, Any], folder: Path | None = None) -> Self:
        """As [training.options.images] says; its files are looked for in `folder`."""
        given = {"options": {OPTIONS: dict(settings.get("options", {})).get(OPTIONS, {})}}
        encoder = cls(configure(Config, OPTIONS, given))
        encoder.folder = folder or Path()
        return encoder

    folder = Path()  # where a relative `weights` or `onnx` stands

    def learn(
        self,
        pixels: Pixels,
        signals: Signals,
        *,
        seed: int = 42,
        checkpoint: Path | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """Learn from (P, kept, kept, 3) pictures what `signals` say of them. Same seed, same weights.

        Raises:
            InputError: `weights` or `onnx` cannot be read or fit no such network; no signal at all.
        """
        config = self.config
        if config.onnx:
            self._use_onnx(self.folder / config.onnx)
            self.card = {"what": f"the encoder {config.onnx}, as given", "chosen": asdict(config)}
            return
        self.categories = list(signals.categories)
        torch.manual_seed(seed)
        network = Network(
            config, len(self.categories), signals.attributes.shape[1], signals.together.shape[1]
        )
        if config.weights:
            _start_from(network, self.folder / config.weights)
        if config.frozen:
            for part in (network.stem, network.stages):
                part.requires_grad_(False)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network
        rows = np.flatnonzero(_told(signals))
        if not len(rows):
            raise InputError(
                "of no picture a category, an attribute or what it is taken with is known",
                where="image encoder",
                next="give the items of the pictures a category, or use given weights",
            )
        if len(rows) > config.learn_from:
            drawn = np.random.default_rng(seed).permutation(rows)[: config.learn_from]
            rows = np.sort(drawn)
        source = _Source(pixels, rows, config)
        category = torch.from_numpy(np.asarray(signals.category, dtype=np.int64))
        attributes = torch.from_numpy(signals.attributes)
        together = torch.from_numpy(signals.together)

        def loss(batch: "_Batch", generator: torch.Generator) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                if config.frozen:
                    network.stem.eval()
                    network.stages.eval()
                seen = network(batch.pictures).float()
            total: Tensor = seen.new_zeros(())
            for rows, share in ((batch.rows, batch.share), (batch.others, 1.0 - batch.share)):
                if share > 0.0:
                    total = total + share * _loss(
                        network, seen, category[rows], attributes[rows], together[rows], config
                    )
            return total

        before = torch.get_num_threads()
        torch.set_num_threads(config.learning_threads)
        try:
            report = train(
                network,
                source.epoch,
                loss,
                Plan(
                    max_epochs=config.epochs,
                    max_minutes=float("inf"),
                    learning_rate=config.rate,
                    weight_decay=config.decay,
                    decoupled=True,
                    schedule="cosine",
                    warmup_steps=max(1, 3 * source.batches),
                    clip=2.0,
                ),
                seed=seed,
                checkpoint=checkpoint,
                fingerprint=_fingerprint(pixels, signals, config, seed, self.folder),
                progress=progress,
                name="image encoder",
                begin=source.begin,
            )
        finally:
            torch.set_num_threads(before)
        network.eval()
        self.card = {
            "what": "convolutional network from a picture to a vector",
            "chosen": json.loads(json.dumps(asdict(config))),
            "pictures": len(rows),
            "signals": {
                "categories": len(self.categories),
                "attributes": int(signals.attributes.shape[1]),
                "together": int(np.any(signals.together[rows], axis=1).sum())
                if signals.together.size
                else 0,
            },
            "parameters": sum(p.numel() for p in network.parameters()),
            "threads": config.learning_threads,
            "seed": seed,
            **report.as_dict(),
        }

    @property
    def width(self) -> int:
        """V, numbers in a vector."""
        if self._onnx is not None:
            return int(self.encode(np.zeros((1, 8, 8, 3), dtype=np.uint8)).shape[1])
        return int(self.config.widths[-1])

    def encode(self, pixels: Pixels) -> Floats:
        """(B, V) float32 of length 1, of (B, any, any, 3) squares."""
        return _unit(self._seen(pixels)[0])

    def classify(self, pixels: Pixels) -> Floats:
        """(B, C) probabilities of `categories`; NotReady where none was learned."""
        if self.network is None or not self.categories:
            raise NotReady(
                "this encoder has learned no categories",
                where="image encoder",
                next="learn one: leave out onnx",
            )
        return self._seen(pixels)[1]

    @torch.inference_mode()
    def _seen(self, pixels: Pixels) -> tuple[Floats, Floats]:
        encoding = self._encoding()
        vectors: list[Floats] = []
        likely: list[Floats] = []
        for start in range(0, max(1, len(pixels)), BATCH):
            part = torch.from_numpy(np.ascontiguousarray(pixels[start : start + BATCH]))
            shown = normalised(_smaller(part, self.config.side), self.config)
            seen = 0.5 * (encoding(shown) + encoding(shown.flip(3)))
            vectors.append(seen.numpy())
            if self.network is not None:
                likely.append(self.network.category(seen).softmax(dim=1).numpy())
        return np.concatenate(vectors), np.concatenate(likely) if likely else vectors[0][:, :0]

    def _encoding(self) -> Encoding:
        if self._onnx is not None:
            session = self._onnx
            name = session.get_inputs()[0].name

            def run(pictures: Tensor) -> Tensor:
                found = np.asarray(session.run(None, {name: pictures.numpy()})[0], np.float32)
                return torch.from_numpy(found.reshape(len(found), -1))

            return run
        if self.network is None:
            raise RuntimeError("learn or load the encoder before asking it")
        network = self.network

        def see(pictures: Tensor) -> Tensor:
            seen: Tensor = network(pictures.contiguous(memory_format=torch.channels_last))
            return seen

        return see

    def save(self, folder: Path) -> None:
        """Write the encoder into `folder`, which exists."""
        about = {"config": asdict(self.config), "categories": self.categories, "card": self.card}
        arrays: weights.Arrays = {}
        if self.network is not None:
            arrays = {k: v.contiguous().numpy() for k, v in self.network.state_dict().items()}
        elif self._onnx_file is not None:
            shutil.copyfile(self._onnx_file, folder / ONNX_FILE)
        weights.write(folder, arrays, about)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        arrays, about = weights.read(folder)
        encoder = cls(configure(Config, OPTIONS, {"options": {OPTIONS: about["config"]}}))
        encoder.card, encoder.categories = about["card"], about["categories"]
        if (folder / ONNX_FILE).exists():
            encoder._use_onnx(folder / ONNX_FILE)
            return encoder
        sizes = [arrays[f"{head}weight"].shape[0] for head in HEADS]
        encoder.network = Network(encoder.config, *sizes)
        state = {name: torch.from_numpy(array) for name, array in arrays.items()}
        encoder.network.load_state_dict(state)
        encoder.network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        return encoder

    def _use_onnx(self, path: Path) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise NotReady(
                "an ONNX encoder needs onnxruntime, which is not installed",
                where=str(path),
                next='install it with: pip install "shopkeeper[export]"',
            ) from error
        if not path.exists():
            raise InputError("no such file", where=f"training.options.{OPTIONS}.onnx = {path}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            side = self.config.side
            asked = {session.get_inputs()[0].name: np.zeros((2, 3, side, side), np.float32)}
            made = np.asarray(session.run(None, asked)[0])
        except Exception as error:  # onnxruntime raises types of its own
            raise InputError(
                f"this encoder does not take (B, 3, {self.config.side}, {self.config.side}) "
                f"float32 pictures: {error}",
                where=str(path),
                next=f"export it so, with any batch size, or set training.options.{OPTIONS}.side",
            ) from error
        if made.shape[0] != 2:
            raise InputError(
                f"of two pictures this encoder makes {made.shape}", where=str(path),
                next="export it with any batch size: (B, 3, side, side) to (B, vector)",
            )  # fmt: skip
        self._onnx, self._onnx_file = session, path


def normalised(shares: Tensor, config: Config) -> Tensor:
    """(B, 3, S, S) float32 as the network wants them, of colours in 0..1."""
    mean = torch.tensor(config.mean).view(1, 3, 1, 1)
    return (shares - mean) / torch.tensor(config.spread).view(1, 3, 1, 1)


def _smaller(pixels: Tensor, side: int) -> Tensor:
    """(B, 3, side, side) float32 in 0..1 of (B, S, S, 3) uint8."""
    shares = pixels.permute(0, 3, 1, 2).float() / 255.0
    if shares.shape[-1] == side:
        return shares
    return F.interpolate(shares, size=(side, side), mode="bilinear", antialias=True)


@dataclass(frozen=True)
class _Batch:
    pictures: Tensor  # (B, 3, S, S)
    rows: Tensor  # (B,) of the signals
    others: Tensor  # (B,) whose picture is blended in
    share: float  # of `rows`; 1: nothing is blended


class _Source:
    """Pictures, each cut, turned and coloured another way every time."""

    def __init__(self, pixels: Pixels, rows: npt.NDArray[np.int64], config: Config) -> None:
        self.pixels, self.rows, self.config = pixels, rows, config
        self.side = config.sides[0]
        self.batches = max(1, len(rows) // config.batch)

    def begin(self, epoch: int) -> None:
        sides = self.config.sides
        self.side = sides[min(len(sides) - 1, (epoch - 1) * len(sides) // self.config.epochs)]

    def epoch(self, rng: np.random.Generator) -> Iterator[_Batch]:
        for part in np.array_split(rng.permutation(self.rows), self.batches):
            pixels = torch.from_numpy(np.ascontiguousarray(self.pixels[np.sort(part)]))
            rows = torch.from_numpy(np.sort(part))
            pictures = normalised(_changed(pixels, self.side, self.config, rng), self.config)
            others, share = rows, 1.0
            if self.config.mixup and rng.random() < self.config.mixup:
                share = float(rng.beta(0.4, 0.4))
                order = torch.from_numpy(rng.permutation(len(rows)))
                pictures, others = share * pictures + (1.0 - share) * pictures[order], rows[order]
            pictures = pictures.contiguous(memory_format=torch.channels_last)
            yield _Batch(pictures, rows, others, share)


def _changed(pixels: Tensor, side: int, config: Config, rng: np.random.Generator) -> Tensor:
    """(B, 3, side, side) in 0..1: a piece of each picture, a little turned, maybe mirrored, coloured."""
    count = len(pixels)

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (count, *shape))).float()

    scale, aspect = draw(config.crop, 1.0).sqrt(), draw(-0.25, 0.25).exp()
    wide, high = (scale * aspect.sqrt()).clamp(max=1.0), (scale / aspect.sqrt()).clamp(max=1.0)
    angle, sign = draw(-0.2, 0.2), draw(-1.0, 1.0).sign()
    if not config.mirror:
        sign = sign.abs()
    where = torch.zeros(count, 2, 3)  # of the piece in the picture, each from -1 to 1
    where[:, 0, 0], where[:, 0, 1] = wide * angle.cos() * sign, -wide * angle.sin()
    where[:, 1, 0], where[:, 1, 1] = high * angle.sin() * sign, high * angle.cos()
    where[:, 0, 2], where[:, 1, 2] = draw(-1.0, 1.0) * (1 - wide), draw(-1.0, 1.0) * (1 - high)
    shares = pixels.permute(0, 3, 1, 2).float() / 255.0
    grid = F.affine_grid(where, [count, 3, side, side], align_corners=False)
    x = F.grid_sample(shares, grid, padding_mode="reflection", align_corners=False)
    if config.colour:
        low, most = 1.0 - config.colour, 1.0 + config.colour
        x = x * draw(low, most, 1, 1, 1)
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        x = (x - mean) * draw(low, most, 1, 1, 1) + mean
        grey = x.mean(dim=1, keepdim=True)
        x = ((x - grey) * draw(low, most, 1, 1, 1) + grey).clamp(0.0, 1.0)
    return x


def _loss(
    network: Network, seen: Tensor, category: Tensor, attributes: Tensor, together: Tensor,
    config: Config,
) -> Tensor:  # fmt: skip
    """() of (B, V) vectors, over those of which each signal is known."""
    total = seen.new_zeros(())
    if bool((category >= 0).any()):
        total = total + F.cross_entropy(
            network.category(seen), category, ignore_index=-1, label_smoothing=config.smoothing
        )
    known = attributes.sum(dim=1) > 0 if attributes.shape[1] else category.new_zeros(0)
    if config.attributes and bool(known.any()):
        said = network.attributes(seen[known])
        # the sum over what there is, so that rare attributes do not drown in the many absent ones
        each = F.binary_cross_entropy_with_logits(said, attributes[known], reduction="none")
        total = total + config.attributes * each.sum(dim=1).mean() / max(
            1.0, float(attributes[known].sum(dim=1).mean())
        )
    with_others = together.any(dim=1) if together.shape[1] else category.new_zeros(0)
    if config.together and bool(with_others.any()):
        near = F.cosine_similarity(network.together(seen[with_others]), together[with_others])
        total = total + config.together * (1.0 - near).mean()
    return total


def _told(signals: Signals) -> npt.NDArray[np.bool_]:
    told: npt.NDArray[np.bool_] = np.asarray(signals.category) >= 0
    for known in (signals.attributes, signals.together):
        if known.shape[1]:
            told = told | known.any(axis=1)
    return told


def _activation(name: str) -> nn.Module:
    kinds: dict[str, Callable[[], nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}
    return kinds[name]()


def _check(config: Config) -> None:
    for name, known in (
        ("convolution", ("full", "separable")),
        ("activation", ("gelu", "relu", "silu")),
        ("pooling", ("stride", "average", "max")),
    ):
        if getattr(config, name) not in known:
            raise InputError(
                f"{name} = {getattr(config, name)!r} is none of: {', '.join(known)}",
                where=f"shop.toml: training.options.{OPTIONS}",
            )
    least = 2 ** len(config.widths)
    if min(config.side, config.kept, *config.sides) < least:
        raise InputError(
            f"a side below {least} pixels is nothing after {len(config.widths)} halvings",
            where=f"shop.toml: training.options.{OPTIONS}",
            next="use larger sides or fewer widths",
        )


def _start_from(network: Network, path: Path) -> None:
    """Take over the weights of stem and stages; heads are learned anew."""
    where = f"training.options.{OPTIONS}.weights = {path}"
    try:
        if path.suffix == ".safetensors":
            given = load_file(path)
        else:  # a state dict: tensors alone are read, never code
            given = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError("no such file", where=where) from error
    except (SafetensorError, RuntimeError, OSError, ValueError, EOFError) as error:
        raise InputError(f"no weights that can be read: {error}", where=where) from error
    except Exception as error:  # torch's unpickler tells of what is no tensor in a type of its own
        raise InputError(f"not weights alone: {str(error)[:200]}", where=where) from error
    wanted = {
        name: value for name, value in network.state_dict().items() if not name.startswith(HEADS)
    }
    missing = [
        f"{name} {tuple(value.shape)}"
        for name, value in wanted.items()
        if name not in given or given[name].shape != value.shape
    ]
    if missing:
        raise InputError(
            f"weights of another network: {len(missing)} of {len(wanted)} arrays are missing or of "
            f"another shape, the first is {missing[0]}",
            where=where,
            next="set stem, widths, blocks and convolution as they were, or export it as onnx",
        )
    network.load_state_dict({name: given[name] for name in wanted}, strict=False)


def _unit(vectors: Floats) -> Floats:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12), dtype=np.float32)


def _fingerprint(pixels: Pixels, signals: Signals, config: Config, seed: int, folder: Path) -> str:
    """Digest of everything that decides the weights, for checkpoints."""
    digest = hashlib.sha256(inspect.getsource(inspect.getmodule(Network)).encode())  # type: ignore[arg-type]
    digest.update(json.dumps({**asdict(config), "seed": seed}, sort_keys=True).encode())
    if config.weights:
        digest.update((folder / config.weights).read_bytes())
    for start in range(0, len(pixels), 1024):  # they may lie on the disk
        digest.update(np.ascontiguousarray(pixels[start : start + 1024]).tobytes())
    for array in (signals.category, signals.attributes, signals.together):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
