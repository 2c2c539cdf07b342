"""The folder of a run: where it is, and what is refused before anything is made."""

import pytest

from pipelines.run_folder import RunFolder


def test_the_folder_is_named_for_time_and_tag_unless_it_is_given(tmp_path):
    assert RunFolder.create(str(tmp_path), None, "tag").path.name.endswith("_tag")
    given = tmp_path / "of my own" / "run 1"
    assert RunFolder.create(str(tmp_path), str(given), "tag").path == given
    assert given.is_dir()


@pytest.mark.parametrize("name", ["a,b", "=1+1", 'quo"te'])
def test_a_name_that_no_trace_could_carry_is_refused_and_not_made(tmp_path, name):
    with pytest.raises(ValueError, match=r"run\.dir=.* is not allowed"):
        RunFolder.create(str(tmp_path), str(tmp_path / name), "tag")
    assert list(tmp_path.iterdir()) == []
