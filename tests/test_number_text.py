"""Texts for a terminal: no line over its width, but for a name that is longer itself."""

from pipelines.number_text import TERMINAL_WIDTH, wrapped

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
