import re
import xml.etree.ElementTree as ET

import polars as pl
import pytest

from shopkeeper.errors import InputError
from shopkeeper.evaluation.plot import _number, _ticks, bars, curves


@pytest.fixture
def frame() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "model": ["transformer", 'odd <"&> 名字'],
            "is_floor": [False, True],
            "NDCG@10": [0.2, 0.1],
            "primary": ["NDCG@10"] * 2,
            "ci_low": [0.18, 0.09],
            "ci_high": [0.22, 0.11],
            "users": [1234, 1234],
        }
    )


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(svg).iter() if node.tag.endswith("}text")]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_bars_are_valid_xml_and_name_every_model_with_its_number(frame, lang) -> None:
    shown = texts(bars(frame, lang))
    assert {"transformer", 'odd <"&> 名字', "0.2000", "0.1000"} <= set(shown)
    assert any("1,234" in text for text in shown)


def test_bars_are_as_long_as_their_numbers(frame) -> None:
    widths = [
        float(w) for w in re.findall(r'<rect class="sk-[mf]"[^>]* width="([\d.]+)"', bars(frame))
    ]
    model, floor = widths[-2:]
    assert model == pytest.approx(2 * floor, rel=0.01)


def test_a_leaderboard_of_zeros_can_be_drawn(frame) -> None:
    zero = frame.with_columns(pl.col("NDCG@10", "ci_low", "ci_high") * 0.0)
    assert "0.0000" in texts(bars(zero))


def epochs(*values: float, metric: str = "NDCG@10") -> list[dict[str, float]]:
    return [{"epoch": row, "seconds": 1.0, metric: value} for row, value in enumerate(values, 1)]


def drawn(svg: str, shape: str) -> list[dict[str, str]]:
    return [node.attrib for node in ET.fromstring(svg).iter() if node.tag.endswith("}" + shape)]


def test_both_pictures_follow_light_and_dark(frame) -> None:
    for svg in (bars(frame), curves({"a": epochs(0.1, 0.2)})):
        assert "prefers-color-scheme:dark" in svg
        assert "<script" not in svg


def test_a_curve_has_a_point_an_epoch_and_rings_the_best_one() -> None:
    svg = curves({"a": epochs(0.1, 0.3, 0.3, 0.2), "b": epochs(0.05)})
    lines = [line["points"].split() for line in drawn(svg, "polyline")]
    assert [len(points) for points in lines] == [4, 1]
    ring = drawn(svg, "circle")[0]
    assert f"{ring['cx']},{ring['cy']}" == lines[0][1]  # the earlier of equals


def test_the_best_loss_is_the_lowest() -> None:
    svg = curves({"a": epochs(3.0, 1.0, 2.0, metric="loss")})
    ring, line = drawn(svg, "circle")[0], drawn(svg, "polyline")[0]
    assert f"{ring['cx']},{ring['cy']}" == line["points"].split()[1]


def test_there_is_a_panel_for_each_metric_that_some_epoch_has() -> None:
    rows = [{"epoch": 1, "accuracy": 0.1, "f1_weighted": 0.2}, {"epoch": 2, "loss": 1.0}]
    svg = curves({"a": rows}, "zh")
    assert {"accuracy", "f1_weighted", "loss"} <= set(texts(svg))
    assert "NDCG@10" not in texts(svg)


def test_curves_without_epochs_say_so() -> None:
    assert "没有可显示的轮次" in texts(curves({"a": []}, "zh"))


def test_a_value_that_is_no_number_cannot_be_drawn() -> None:
    with pytest.raises(InputError, match="NDCG@10 of epoch 2 is not a number"):
        curves({"a": epochs(0.1, float("nan"))})


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 0.0), (0.0, 0.061), (0.031, 0.032), (5.0, 5.0), (0.0, 1.0), (0.2, 7e5)]
)
def test_ticks_are_round_cover_the_values_and_are_told_apart(low, high) -> None:
    ticks = _ticks(low, high)
    assert ticks[0] <= low + 1e-12
    assert ticks[-1] >= high - 1e-12
    assert 2 <= len(ticks) <= 8
    assert len({_number(tick, ticks) for tick in ticks}) == len(ticks)
