from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from shopkeeper.errors import InputError, NotReady
from shopkeeper.features.pictures import Pixels
from shopkeeper.models.image_encoder import Config, ImageEncoder, Network, Signals

TINY = Config(
    side=16, kept=20, sides=(16,), stem=8, widths=(8, 16), epochs=6, batch=16, rate=0.01, colour=0.1
)


def _stripes(count: int, seed: int = 0) -> tuple[Pixels, np.ndarray]:
    """Pictures of stripes: 0 lying, 1 standing; of any colour."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    bright = rng.integers(120, 255, (count, 1, 1, 3))
    shift = rng.integers(0, 4, count)
    place = (np.arange(20)[None, :] + shift[:, None]) // 2 % 2  # (P, 20)
    lying = np.repeat(place[:, :, None], 20, axis=2)
    on = np.where(labels[:, None, None] == 0, lying, lying.transpose(0, 2, 1))[..., None]
    return (on * bright).astype(np.uint8), labels.astype(np.int64)


def _learned(config: Config = TINY, seed: int = 1, **more: object) -> ImageEncoder:
    encoder = ImageEncoder(config)
    pixels, labels = _stripes(96)
    encoder.learn(pixels, Signals.of_categories(labels, ["lying", "standing"]), seed=seed, **more)
    return encoder


@pytest.fixture(scope="module")
def learned() -> ImageEncoder:
    return _learned()


def test_it_tells_what_it_was_taught_of_new_pictures(learned: ImageEncoder) -> None:
    pixels, labels = _stripes(40, seed=9)
    likely = learned.classify(pixels)
    assert likely.shape == (40, 2)
    assert likely.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert (likely.argmax(axis=1) == labels).mean() > 0.9


def test_pictures_alike_have_vectors_alike(learned: ImageEncoder) -> None:
    pixels, labels = _stripes(40, seed=9)
    vectors = learned.encode(pixels)
    assert vectors.shape == (40, 16)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    near = vectors @ vectors.T
    same = labels[:, None] == labels[None, :]
    assert near[same].mean() > near[~same].mean() + 0.1


def test_a_mirror_image_has_the_same_vector(learned: ImageEncoder) -> None:
    pixels, _ = _stripes(6, seed=3)
    mirrored = np.ascontiguousarray(pixels[:, :, ::-1])
    np.testing.assert_allclose(learned.encode(pixels), learned.encode(mirrored), atol=1e-5)


def test_saved_and_loaded_it_sees_the_same_bit_for_bit(
    learned: ImageEncoder, tmp_path: Path
) -> None:
    learned.save(tmp_path)
    again = ImageEncoder.load(tmp_path)
    pixels, _ = _stripes(6, seed=3)
    assert again.encode(pixels).tobytes() == learned.encode(pixels).tobytes()
    assert again.classify(pixels).tobytes() == learned.classify(pixels).tobytes()
    assert again.card == learned.card
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_the_same_seed_gives_the_same_vectors(learned: ImageEncoder) -> None:
    pixels, _ = _stripes(6, seed=3)
    assert _learned().encode(pixels).tobytes() == learned.encode(pixels).tobytes()
    assert _learned(seed=2).encode(pixels).tobytes() != learned.encode(pixels).tobytes()


class Stop(Exception):
    pass


def test_a_run_that_was_killed_ends_with_the_same_weights(
    learned: ImageEncoder, tmp_path: Path
) -> None:
    def stop(done: float, total: float, text: str) -> None:
        if done >= 4:
            raise Stop

    with pytest.raises(Stop):
        _learned(checkpoint=tmp_path, progress=stop)
    resumed = _learned(checkpoint=tmp_path)
    pixels, _ = _stripes(6, seed=3)
    assert resumed.encode(pixels).tobytes() == learned.encode(pixels).tobytes()


def test_attributes_and_company_alone_teach_it_too() -> None:
    pixels, labels = _stripes(96)
    unknown = np.full(96, -1, dtype=np.int64)
    attributes = np.eye(2, dtype=np.float32)[labels]
    company = np.where(labels[:, None] == 0, [1.0, 0.0], [0.0, 1.0]).astype(np.float32)
    company[::5] = 0.0  # of some nothing is known
    encoder = ImageEncoder(TINY)
    encoder.learn(pixels, Signals(unknown, [], attributes, company), seed=1)
    vectors = encoder.encode(pixels)
    near = vectors @ vectors.T
    same = labels[:, None] == labels[None, :]
    assert near[same].mean() > near[~same].mean() + 0.1
    with pytest.raises(NotReady, match="no categories"):
        encoder.classify(pixels)


@pytest.mark.parametrize(
    "other",
    [
        {"pooling": "average", "activation": "relu"},
        {"pooling": "max", "activation": "silu", "mixup": 1.0},
        {"convolution": "separable", "blocks": 2, "sides": (12, 16)},
    ],
)
def test_other_forms_learn_as_well(other: dict[str, object]) -> None:
    encoder = _learned(replace(TINY, **other))
    pixels, labels = _stripes(40, seed=9)
    assert (encoder.classify(pixels).argmax(axis=1) == labels).mean() > 0.8


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"pooling": "mean"}, "stride, average, max"),
        ({"activation": "tanh"}, "gelu, relu, silu"),
        ({"side": 3}, "halvings"),
    ],
)
def test_a_form_that_there_is_not_is_refused(other: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        ImageEncoder(replace(TINY, **other))


def test_pictures_of_which_nothing_is_known_teach_nothing() -> None:
    pixels, labels = _stripes(8)
    with pytest.raises(InputError, match="no picture"):
        ImageEncoder(TINY).learn(pixels, Signals.of_categories(labels * 0 - 1, ["a"]))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_given_weights_are_where_it_starts(
    learned: ImageEncoder, tmp_path: Path, suffix: str
) -> None:
    assert learned.network is not None
    state = {k: v.contiguous() for k, v in learned.network.state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save(state, path)
    else:
        save_file(state, path)
    pixels, labels = _stripes(96)
    encoder = ImageEncoder(replace(TINY, weights=path.name, frozen=True, epochs=2))
    encoder.folder = tmp_path
    encoder.learn(pixels, Signals.of_categories(labels, ["lying", "standing"]), seed=5)
    assert encoder.encode(pixels).tobytes() == learned.encode(pixels).tobytes()


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    pixels, labels = _stripes(16)
    signals = Signals.of_categories(labels, ["a", "b"])
    encoder = ImageEncoder(replace(TINY, weights=str(tmp_path / "w.safetensors")))
    with pytest.raises(InputError, match="no such file"):
        encoder.learn(pixels, signals)
    wider = Network(replace(TINY, widths=(8, 24)), 2, 0, 0)
    save_file(
        {k: v.contiguous() for k, v in wider.state_dict().items()}, tmp_path / "w.safetensors"
    )
    with pytest.raises(InputError, match="of another shape"):
        encoder.learn(pixels, signals)
    (tmp_path / "w.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match="read"):
        encoder.learn(pixels, signals)
    torch.save({"code": Config}, tmp_path / "w.pt")
    with pytest.raises(InputError, match="not weights alone"):
        ImageEncoder(replace(TINY, weights=str(tmp_path / "w.pt"))).learn(pixels, signals)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # the exporter's
def test_an_encoder_in_onnx_sees_what_it_saw_before(learned: ImageEncoder, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert learned.network is not None
    dim = torch.export.Dim("batch", min=1, max=4096)
    torch.onnx.export(
        learned.network.to(memory_format=torch.contiguous_format),
        (torch.zeros(2, 3, 16, 16),),
        tmp_path / "given.onnx",
        dynamo=True,
        dynamic_shapes={"pictures": {0: dim}},
        external_data=False,
        verbose=False,
    )
    encoder = ImageEncoder(replace(TINY, onnx="given.onnx"))
    encoder.folder = tmp_path
    pixels, labels = _stripes(6)
    encoder.learn(pixels, Signals.of_categories(labels, ["a", "b"]))
    np.testing.assert_allclose(encoder.encode(pixels), learned.encode(pixels), atol=1e-4)
    (tmp_path / "kept").mkdir()
    encoder.save(tmp_path / "kept")
    again = ImageEncoder.load(tmp_path / "kept")
    assert again.encode(pixels).tobytes() == encoder.encode(pixels).tobytes()
    other = ImageEncoder(replace(TINY, side=24, onnx=str(tmp_path / "given.onnx")))
    with pytest.raises(InputError, match="does not take"):
        other.learn(pixels, Signals.of_categories(labels, ["a", "b"]))
