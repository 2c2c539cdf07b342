"""Texts for a terminal: no line over its width, but for a longer name; money in any currency."""

import pytest

from pipelines.number_text import TERMINAL_WIDTH, money, signed_money, wrapped

NAME = "binance_BTC-USDT-15-MIN.parquet"


def test_a_sentence_is_broken_between_words_and_goes_on_under_its_words():
    lines = wrapped("word " * 60, "! ")
    assert [line[:2] for line in lines] == ["! ", *["  "] * (len(lines) - 1)]
    assert max(map(len, lines)) <= TERMINAL_WIDTH
    assert " ".join(line[2:] for line in lines).split() == ["word"] * 60


def test_the_name_of_a_file_stays_whole_where_a_line_ends():
    for room in range(TERMINAL_WIDTH):
        lines = wrapped(f"{'x' * room} {NAME} of it")
        assert any(NAME in line for line in lines), room
    longer = "a/long-path/" * 20
    assert longer in wrapped(f"before {longer} after")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "0"), (12.4, "12"), (56_900.2, "56,900"), (1.6e12, "1,600,000,000,000"),
        (0.0012345, "0.00123"), (3.14159, "3.14"), (1.2e-7, "0.00000012"), (9.999, "10"),
    ],
)  # fmt: skip
def test_money_of_an_account_in_bitcoins_is_not_rounded_away(value, text):
    assert money(value) == text


def test_a_small_loss_is_no_zero_with_a_minus():
    assert [signed_money(value) for value in (-0.0012345, -0.0, 0.4, 1_234.5)] == [
        "-0.00123", "+0", "+0.4", "+1,234"
    ]  # fmt: skip
    assert [signed_money(value, 2) for value in (12.3, -1_234.567, 0.004)] == [
        "+12.30", "-1,234.57", "+0.004"
    ]  # fmt: skip
