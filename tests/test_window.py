"""Windows gathered from the table: the right bars, nothing of the future, the normaliser."""

import pytest
import torch

from modules.window import BarWindow

BARS, FEATURES, WINDOW = 40, 3, 8


def table(bars=BARS):
    return torch.randn(bars, FEATURES, generator=torch.Generator().manual_seed(0))


def plain_window(features, **changes):
    """A gather whose normaliser changes nothing."""
    args = {
        "features": features,
        "loc": torch.zeros(FEATURES),
        "scale": torch.ones(FEATURES),
        "window": WINDOW,
        "clip": 100.0,
    }
    return BarWindow(**{**args, **changes})


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 3, 4)])
def test_windows_equal_slices_of_the_table(shape, device):
    features = table()
    bar = torch.randint(WINDOW - 1, BARS, (*shape, 1))
    windows = plain_window(features).to(device)(bar.to(device)).cpu()
    assert windows.shape == (*shape, WINDOW, FEATURES)
    for t, found in zip(bar.flatten().tolist(), windows.reshape(-1, WINDOW, FEATURES), strict=True):
        assert torch.equal(found, features[t - WINDOW + 1 : t + 1])


def test_first_and_last_window_of_the_table():
    features = table()
    windows = plain_window(features)(torch.tensor([[WINDOW - 1], [BARS - 1]]))
    assert torch.equal(windows[0], features[:WINDOW])
    assert torch.equal(windows[1], features[-WINDOW:])


def test_a_pointer_before_a_full_window_repeats_the_first_bar_and_never_wraps():
    features = table()
    windows = plain_window(features)(torch.tensor([[0], [2]]))
    assert torch.equal(windows[0], features[:1].expand(WINDOW, -1))
    assert torch.equal(windows[1][-3:], features[:3])
    assert torch.equal(windows[1][:-3], features[:1].expand(WINDOW - 3, -1))


def test_a_pointer_behind_the_table_raises():
    with pytest.raises(IndexError, match=f"index {BARS} is out of bounds"):
        plain_window(table())(torch.tensor([[BARS]]))


@pytest.mark.parametrize("t", [WINDOW - 1, 20, BARS - 2])
def test_bars_after_the_pointer_have_no_influence(t):
    features = table()
    future = features.clone()
    future[t + 1 :] = float("nan")
    bar = torch.tensor([[t]])
    assert torch.equal(plain_window(features)(bar), plain_window(future)(bar))
    future[t] += 1
    assert not torch.equal(plain_window(features)(bar), plain_window(future)(bar))


def test_values_are_normalised_and_clipped():
    features = torch.tensor([[1.0, 10.0], [5.0, -90.0]])
    gather = BarWindow(
        features, torch.tensor([1.0, 10.0]), torch.tensor([2.0, 5.0]), window=2, clip=3.0
    )
    expected = torch.tensor([[[0.0, 0.0], [2.0, -3.0]]])
    assert torch.equal(gather(torch.tensor([[1]])), expected)
    assert torch.equal(gather.normalise(features), expected[0])


def test_state_holds_the_normaliser_and_not_the_table():
    gather = plain_window(table())
    assert set(gather.state_dict()) == {"loc", "scale"}


def test_loading_a_state_brings_its_normaliser_and_leaves_the_caller_s_alone():
    loc, scale = torch.full((FEATURES,), 0.5), torch.full((FEATURES,), 2.0)
    trained = plain_window(table(), loc=loc, scale=scale)
    mine = torch.zeros(FEATURES)
    loaded = plain_window(table(), loc=mine)
    loaded.load_state_dict(trained.state_dict(), strict=True)
    bar = torch.tensor([[WINDOW], [BARS - 1]])
    assert torch.equal(loaded(bar), trained(bar))
    assert torch.equal(mine, torch.zeros(FEATURES))


def test_the_table_is_not_copied():
    features = table()
    assert plain_window(features).features.data_ptr() == features.data_ptr()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": torch.zeros(5)}, r"features: .*shape \(5,\).*float32 \[bars, features\]"),
        ({"features": table().double()}, "features: torch.float64.*float32"),
        ({"loc": torch.zeros(FEATURES + 1)}, r"loc: .*shape \(4,\).*float32 \[3\]"),
        ({"scale": torch.ones(FEATURES).double()}, "scale: torch.float64.*float32"),
        ({"scale": torch.tensor([1.0, 0.0, 1.0])}, "scales above 0"),
        ({"loc": torch.full((FEATURES,), float("nan"))}, "finite"),
        ({"window": 0}, "window=0 is not allowed: from 1 to the 40 bars"),
        ({"window": BARS + 1}, "window=41 is not allowed"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        plain_window(**{"features": table(), **changes})
