"""Looks at held-out bars: what is counted, and what a report's receipt holds."""

import dataclasses

import pytest

from pipelines.judging.chained_file import BrokenChainError, ChainedFile
from pipelines.judging.opening import CarriedLook, Opening
from pipelines.judging.registry import Registry

FIRST = Opening(
    asset="BTC/USD",
    source_sha256="aa",
    first_bar="2025-01-01T00:00:00+00:00",
    last_bar="2025-02-01T00:00:00+00:00",
    split="test",
    run="run-1",
    config_sha256="config-1",
    checkpoint_sha256="weights-1",
    purpose="evaluate",
)


def other(**changes):
    return dataclasses.replace(FIRST, **changes)


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "openings.jsonl")


def test_a_first_look_is_one(registry):
    looks = registry.looks(registry.open(FIRST))
    assert (looks.trials, looks.openings, looks.earlier) == (1, 1, 0)
    assert looks.begun.startswith("20")


def test_the_same_candidate_looks_twice_and_is_one_trial(registry):
    registry.open(FIRST)
    looks = registry.looks(registry.open(other(run="again", purpose="replay")))
    assert (looks.trials, looks.openings, looks.earlier) == (1, 2, 1)


@pytest.mark.parametrize(
    "changes", [{"config_sha256": "config-2"}, {"checkpoint_sha256": "weights-2"}]
)
def test_another_configuration_or_checkpoint_is_another_trial(registry, changes):
    registry.open(FIRST)
    assert registry.looks(registry.open(other(**changes))).trials == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"asset": "ETH/USD", "source_sha256": "bb"},  # another market
        {"source_sha256": "bb"},  # another exchange, or another cut of the same file
        {"source_sha256": "bb", "first_bar": "2026-01-01", "last_bar": "2026-02-01"},
    ],
)
def test_the_same_candidate_on_other_bars_is_another_try(registry, changes):
    first = registry.open(FIRST)
    looks = registry.looks(registry.open(other(**changes)))
    assert (looks.trials, looks.candidates) == (2, 1)
    assert registry.looks(first).trials == 2, "whichever of the two is quoted"


def test_the_best_of_some_candidates_on_some_markets_is_the_best_of_all_of_them(registry):
    for market in ("BTC", "ETH", "SOL", "XRP", "ADA"):
        for number in range(3):
            changes = {"asset": market, "source_sha256": f"file {market}"}
            receipt = registry.open(other(checkpoint_sha256=f"{number}", **changes))
    registry.open(other(checkpoint_sha256="of another policy", asset="DOGE", source_sha256="d"))
    looks = registry.looks(receipt)
    assert (looks.trials, looks.candidates, looks.openings) == (15, 3, 3)


@pytest.mark.parametrize(
    "one",
    [
        {"asset": "ETH/USD", "source_sha256": "bb"},
        {"first_bar": "2026-01-01", "last_bar": "2026-02-01"},
    ],
)
def test_a_candidate_at_other_bars_alone_is_no_try_and_is_known(registry, one):
    receipt = registry.open(FIRST)
    for number in range(2):
        registry.open(other(checkpoint_sha256=f"of {number}", **one))
        registry.open(other(checkpoint_sha256=f"of {number}", purpose="replay", **one))
    registry.open(other(checkpoint_sha256="of both", **one))
    registry.open(other(checkpoint_sha256="of both"))
    looks = registry.looks(receipt)
    assert (looks.candidates, looks.apart) == (2, 2)


def test_a_part_of_the_same_file_under_another_name_is_no_further_try(registry):
    registry.open(other(last_bar="2025-01-02", purpose="replay"))
    registry.open(other(asset="XBT/USD"))
    assert registry.looks(registry.open(FIRST)).trials == 1


@pytest.mark.parametrize(
    ("changes", "overlaps"),
    [
        ({"first_bar": "2025-02-01T00:00:00+00:00", "last_bar": "2025-03-01T00:00+00:00"}, True),
        ({"first_bar": "2025-02-01T00:01:00+00:00", "last_bar": "2025-03-01T00:00+00:00"}, False),
        ({"source_sha256": "bb"}, True),  # the same market from another file
        ({"asset": "XBT/USD"}, True),  # the same file under another name
        ({"asset": "XBT/USD", "source_sha256": "bb"}, False),
        ({"first_bar": "2025-02-01T02:00:00+02:00", "last_bar": "2025-03-01T00:00+00:00"}, True),
        ({"first_bar": "2024-01-01", "last_bar": "2026-01-01"}, True),  # without an offset: UTC
        ({"split": "val"}, True),  # the bars count, not what they are called
    ],
)
def test_bars_are_the_same_by_market_or_file_and_time(registry, changes, overlaps):
    registry.open(FIRST)
    looks = registry.looks(registry.open(other(config_sha256="config-2", **changes)))
    assert (looks.trials, looks.openings) == ((2, 2) if overlaps else (1, 1))


def test_bars_without_a_file_are_not_one_file(registry):
    registry.open(other(source_sha256="", asset="SYNTHETIC/a"))
    looks = registry.looks(registry.open(other(source_sha256="", asset="SYNTHETIC/b")))
    assert looks.openings == 1


def test_later_candidates_count_and_later_looks_were_not_before(registry):
    receipt = registry.open(FIRST)
    for i in range(4):
        registry.open(other(config_sha256=f"later-{i}"))
    looks = registry.looks(receipt)
    assert (looks.trials, looks.openings, looks.earlier) == (5, 5, 0)


def test_openings_come_back_as_they_were(registry):
    second = other(run="run-2")
    registry.open(FIRST)
    registry.open(second)
    assert [look.opening for look in registry.known().carried] == [FIRST, second]
    assert Registry(registry.file.path.with_name("none.jsonl")).known().carried == []


def test_an_end_cut_off_together_with_its_head_is_missed_by_a_receipt(registry):
    for i in range(3):
        receipt = registry.open(other(run=f"run-{i}"))
        if i == 1:
            kept = registry.file.path.read_bytes(), registry.file.head.read_bytes()
    registry.file.path.write_bytes(kept[0])
    registry.file.head.write_bytes(kept[1])
    assert len(registry.known().carried) == 2  # by itself it is whole
    with pytest.raises(BrokenChainError, match="line 4 is missing: there is a receipt for line 4"):
        registry.looks(receipt)


def test_a_registry_that_was_begun_anew_is_not_the_old_one(registry):
    receipt = registry.open(FIRST)
    registry.file.path.unlink()
    registry.file.head.unlink()
    registry.open(FIRST)
    with pytest.raises(BrokenChainError, match="it was begun anew"):
        registry.verify([receipt])


def test_another_line_in_the_place_of_a_receipt_s_is_missed(registry):
    kept = registry.open(FIRST)
    begun = registry.file.path.read_bytes().splitlines(keepends=True)[0]
    registry.file.path.write_bytes(begun)
    registry.file.head.unlink()  # a single line needs none
    registry.open(other(run="forged"))
    with pytest.raises(BrokenChainError, match="line 2 is not the one of its receipt"):
        registry.verify([kept])


def test_a_damaged_registry_takes_no_opening(registry):
    registry.open(FIRST)
    blob = registry.file.path.read_bytes()
    registry.file.path.write_bytes(blob.replace(b"run-1", b"run-9"))
    with pytest.raises(BrokenChainError, match="line 2 was changed"):
        registry.open(FIRST)
    assert registry.file.path.read_bytes() == blob.replace(b"run-1", b"run-9")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"last_bar": "2024-12-31"}, "is before first_bar"),
        ({"first_bar": "soon"}, "soon"),
        ({"first_bar": ""}, "is not a time"),
    ],
)
def test_times_that_are_none_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        other(**changes)


def test_a_look_that_is_brought_counts_once_by_whatever_way_it_comes(registry, tmp_path):
    pod, other_pod = Registry(tmp_path / "pod.jsonl"), Registry(tmp_path / "other_pod.jsonl")
    receipts = [pod.open(other(config_sha256=f"pod-{i}")) for i in range(3)]
    kept = registry.open(FIRST)
    assert registry.bring(pod.carried()) == 3
    looks = registry.looks(kept)
    assert (looks.trials, looks.openings, looks.earlier) == (4, 4, 0)
    assert registry.looks(registry.open(other(config_sha256="next"))).earlier == 4
    assert other_pod.bring(pod.carried()) == 3
    # Round about, and home again: nothing that is not known.
    assert registry.bring(other_pod.carried()) == 0
    assert other_pod.bring(registry.carried()) == 2
    assert registry.bring(other_pod.carried()) == pod.bring(pod.carried()) == 0
    assert other_pod.carried() == registry.carried()
    # What was counted there has its proof here.
    assert all(registry.knows(receipt) for receipt in receipts)
    registry.verify(receipts)
    assert registry.looks(receipts[1]).earlier == 2
    assert not pod.knows(kept)
    with pytest.raises(BrokenChainError, match="begun anew"):
        pod.verify([kept])


def test_what_is_brought_is_written_at_once(registry, tmp_path, monkeypatch):
    """A registry of thousands would else be read, and waited for, once a look."""
    pod = Registry(tmp_path / "pod.jsonl")
    for number in range(7):
        pod.open(other(checkpoint_sha256=f"{number}"))
    kept, counts = registry.open(FIRST), []
    extend = ChainedFile.extend
    monkeypatch.setattr(
        ChainedFile,
        "extend",
        lambda own, lines, many: counts.append(len(many)) or extend(own, lines, many),
    )
    assert registry.bring(pod.carried()) == 7
    assert counts == [7]
    assert registry.looks(kept).trials == 8


def test_nothing_brought_begins_no_registry(registry):
    assert registry.bring([]) == 0
    assert not registry.file.path.exists()


def test_a_damaged_registry_takes_nothing(registry, tmp_path):
    pod = Registry(tmp_path / "pod.jsonl")
    pod.open(FIRST)
    registry.open(FIRST)
    registry.file.path.write_bytes(registry.file.path.read_bytes().replace(b"run-1", b"run-2"))
    hurt = registry.file.path.read_bytes()
    with pytest.raises(BrokenChainError, match="line 2 was changed"):
        registry.bring(pod.carried())
    assert registry.file.path.read_bytes() == hurt


@pytest.mark.parametrize(
    ("number", "change", "words"),
    [
        (1, {"registry": None}, "line 1 begins no registry"),
        (1, {"time": 3}, "line 1 begins no registry"),
        (2, {"asset": ["BTC/USD"]}, "line 2 is no opening"),
        (2, {"first_bar": []}, "line 2 is no opening"),
        (2, {"origin": {"registry": [], "line": 2, "sha256": "0"}}, "line 2 has no origin"),
        (2, {"origin": {"line": 2}}, "line 2 has no origin"),
    ],
)
def test_a_line_that_is_no_look_is_named_whatever_it_holds(registry, number, change, words):
    """Its hashes are right: else a page would show an edge as if its registry were whole."""
    registry.open(FIRST)
    values = [dict(line.values) for line in registry.verify()]
    values[number - 1] |= change
    forged = Registry(registry.file.path.with_name("forged.jsonl"))
    with forged.file.growing() as lines:
        forged.file.extend(lines, values)
    with pytest.raises(BrokenChainError, match=words):
        forged.known()


@pytest.mark.parametrize(
    "change",
    [
        {"time": "yesterday, perhaps"}, {"time": None}, {"asset": 1}, {"purpose": ["evaluate"]},
        {"last_bar": "2020-01-01"}, {"more": "keys"}, {"origin": None}, {"origin": {}},
        {"origin": {"registry": "../x", "line": 2, "sha256": "0" * 64}},
        {"origin": {"registry": "0" * 32, "line": "2", "sha256": "0" * 64}},
        {"origin": {"registry": "0" * 32, "line": 2, "sha256": "0"}},
    ],
)  # fmt: skip
def test_what_is_carried_is_not_trusted(registry, change):
    registry.open(FIRST)
    (look,) = registry.carried()
    plain = look.to_plain()
    assert CarriedLook.from_plain(plain) == look
    with pytest.raises(ValueError, match="no look at held-out bars"):
        CarriedLook.from_plain(plain | change)
    with pytest.raises(ValueError, match="no look at held-out bars"):
        CarriedLook.from_plain({"asset": "BTC/USD"})
