"""Runs that are judged as one: which are seeds of one configuration, and their hashes."""

import pytest

from envs.data_config import DataConfig
from pipelines.config import RunConfig
from pipelines.held_out.candidate import differing_keys, load_candidate


def test_runs_of_other_configurations_are_refused_by_the_keys_that_differ(three_runs):
    load_candidate("x", [[path] for path in three_runs[:2]])
    with pytest.raises(ValueError, match=r"env\.trailing: False then, True now$"):
        load_candidate("x", [[three_runs[0]], [three_runs[2]]])
    with pytest.raises(ValueError, match="another run of seed 1"):
        load_candidate("x", [[three_runs[0]], [three_runs[0]]])


def test_how_a_run_was_computed_makes_no_other_configuration(three_runs):
    """Nor another hash: who has looked with it before would be forgotten."""
    first, other = (load_candidate("x", [[three_runs[0]]]) for _ in range(2))
    trained = other.parts[0].trained
    trained.env.compile, trained.train.cuda_graph = True, False
    assert differing_keys(first.parts[0].trained, trained) == []
    assert first.config_sha256 == other.config_sha256


def test_the_same_seeds_have_the_same_hash_and_others_another(three_runs):
    a, b, c = (load_candidate("x", [[path]]) for path in three_runs)
    assert a.config_sha256 == b.config_sha256 != c.config_sha256
    assert a.checkpoint_sha256 != b.checkpoint_sha256
    both = load_candidate("x", [[path] for path in three_runs[:2]])
    turned = load_candidate("x", [[path] for path in reversed(three_runs[:2])])
    assert both.checkpoint_sha256 == turned.checkpoint_sha256
    assert both.checkpoint_sha256 not in (a.checkpoint_sha256, b.checkpoint_sha256)


def test_files_of_markets_elsewhere_make_no_other_configuration():
    def named(folder, *names):
        return RunConfig(data=DataConfig(assets=[f"{n}={folder}/{n}.csv" for n in names]))

    here, there = named("here", "A", "B"), named("there", "A", "B")
    assert differing_keys(here, there) == []
    assert differing_keys(here, named("here", "A", "C")) != []
