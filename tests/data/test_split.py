import pytest

from workbench.data.split import split_indices


@pytest.mark.parametrize("count", [1, 2, 10, 200])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
def test_a_split_is_complete_disjoint_and_repeatable(count, share):
    train, validation = split_indices(count, share, seed=3)
    assert sorted(train + validation) == list(range(count))
    assert train
    assert bool(validation) == (share > 0 and count > 1)
    assert (train, validation) == split_indices(count, share, seed=3)
