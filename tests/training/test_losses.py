import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from shopkeeper.training.losses import (
    draw_negatives,
    full_softmax,
    sampled_softmax,
    set_softmax,
)


@pytest.fixture
def case() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    states = torch.randn(700, 16, requires_grad=True)
    table = torch.randn(900, 16, requires_grad=True)
    bias = torch.randn(900, requires_grad=True)
    return states, table, bias, torch.randint(0, 900, (700,))


def _gradients(loss: Tensor, *of: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, of))


def test_the_chunked_softmax_equals_the_plain_one(
    case: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    states, table, bias, targets = case
    plain = F.cross_entropy(states @ table.T + bias, targets)
    ours = full_softmax(states, table, bias, targets, half=False)
    torch.testing.assert_close(ours, plain)
    for mine, theirs in zip(
        _gradients(ours * 3, states, table, bias),
        _gradients(plain * 3, states, table, bias),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-7, rtol=1e-5)


def test_half_precision_products_change_gradients_by_less_than_one_percent(
    case: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    states, table, bias, targets = case
    exact = _gradients(full_softmax(states, table, bias, targets, half=False), states, table)
    half = _gradients(full_softmax(states, table, bias, targets, half=True), states, table)
    for mine, theirs in zip(half, exact, strict=True):
        assert (mine - theirs).norm() < 0.01 * theirs.norm()


def test_a_sample_of_everything_is_the_full_softmax(
    case: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    states, table, bias, targets = case
    drawn, log_expected = draw_negatives(900, 900, torch.Generator().manual_seed(0))
    sampled = sampled_softmax(states, table, bias, targets, drawn, log_expected, half=False)
    full = full_softmax(states, table, bias, targets, half=False)
    torch.testing.assert_close(sampled, full)
    for mine, theirs in zip(
        _gradients(sampled, states, table, bias), _gradients(full, states, table, bias), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-7, rtol=1e-4)


def test_the_sampled_softmax_equals_its_plain_form(
    case: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    states, table, bias, targets = case
    shares = torch.softmax(torch.randn(900), dim=0)
    drawn, log_expected = draw_negatives(900, 200, torch.Generator().manual_seed(1), shares)
    hit = (states * table[targets]).sum(1) + bias[targets]
    others = states @ table[drawn].T + bias[drawn] - log_expected
    others = others.masked_fill(drawn[None, :] == targets[:, None], -torch.inf)
    plain = (torch.logaddexp(hit, others.logsumexp(1)) - hit).mean()
    ours = sampled_softmax(states, table, bias, targets, drawn, log_expected, half=False)
    torch.testing.assert_close(ours, plain)
    for mine, theirs in zip(
        _gradients(ours, states, table, bias), _gradients(plain, states, table, bias), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-7, rtol=1e-4)


def test_the_corrected_sample_estimates_the_sum_over_the_catalogue() -> None:
    generator = torch.Generator().manual_seed(2)
    torch.manual_seed(2)
    logits = torch.randn(2000)
    shares = torch.softmax(2 * torch.randn(2000), dim=0)
    for weights in (None, shares):
        sums = []
        for _ in range(300):
            drawn, log_expected = draw_negatives(2000, 100, generator, weights)
            sums.append(float((logits[drawn] - log_expected).exp().sum()))
        true = float(logits.exp().sum())
        assert abs(sum(sums) / len(sums) - true) < 0.03 * true


def test_draws_are_different_items() -> None:
    shares = torch.tensor([0.9, *[0.1 / 99] * 99])
    for weights in (None, shares):
        drawn, _ = draw_negatives(100, 40, torch.Generator().manual_seed(3), weights)
        assert len(drawn.unique()) == len(drawn)


def _plain_set_loss(
    logits: torch.Tensor, wanted: tuple[torch.Tensor, torch.Tensor], of_rows: torch.Tensor
) -> torch.Tensor:
    each = -logits.log_softmax(dim=1)[wanted[0], wanted[1]] * of_rows[wanted[0]]
    return each.sum() / of_rows[wanted[0]].sum()


def test_the_softmax_of_sets_is_cross_entropy_pair_by_pair_gradients_too() -> None:
    torch.manual_seed(4)
    states, table, bias = (torch.randn(*shape, requires_grad=True) for shape in ((70, 6), (30, 6), (30,)))  # fmt: skip
    wanted = (torch.arange(70).repeat_interleave(2), torch.tensor([3, 8]).repeat(70))
    rows, items = torch.tensor([0, 0, 69]), torch.tensor([3, 5, 9])
    more = torch.tensor([0.7, -1.5, -torch.inf], requires_grad=True)
    of_rows = torch.linspace(0.5, 2.0, 70)
    ours = set_softmax(
        states, table, bias, wanted, (rows, items, more), of_rows=of_rows, half=False
    )
    logits = (states @ table.T + bias).index_put((rows, items), more, accumulate=True)
    theirs = _plain_set_loss(logits, wanted, of_rows)
    torch.testing.assert_close(ours, theirs)
    named = [states, table, bias]
    for mine, plain in zip(
        torch.autograd.grad(ours, [*named, more]),
        torch.autograd.grad(theirs, [*named, more]),
        strict=True,
    ):
        torch.testing.assert_close(mine, plain, atol=1e-5, rtol=1e-4)


def test_the_sampled_softmax_of_sets_is_the_whole_one_when_everything_is_drawn() -> None:
    torch.manual_seed(5)
    states, table, bias = torch.randn(8, 4), torch.randn(20, 4), torch.randn(20)
    wanted = (torch.arange(8), torch.arange(8))
    none = (torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    whole = set_softmax(states, table, bias, wanted, none, of_rows=torch.ones(8), half=False)
    drawn = (torch.randperm(20), torch.zeros(20))
    sampled = set_softmax(states, table, bias, wanted, none, of_rows=torch.ones(8), drawn=drawn, half=False)  # fmt: skip
    torch.testing.assert_close(sampled, whole)
