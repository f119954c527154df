from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedjax_sl.data import (
    dirichlet,
    iid,
    label_histogram,
    label_skew,
    mixed,
    natural,
    pathological,
    quantity,
    shards,
    sizes,
)
from fedjax_sl.data.partitions.natural import Natural


ALL = {
    "iid": iid,
    "shards": shards,
    "mixed": mixed,
    "dirichlet": partial(dirichlet, alpha=1.0, min_size=0),
    "dirichlet, balanced": partial(
        dirichlet, alpha=1.0, min_size=0, self_balancing=True
    ),
    "pathological": pathological,
    "quantity": partial(quantity, alpha=1.0, min_size=0),
}


def rng(seed=0):
    return np.random.default_rng(seed)


def balanced(classes=10, each=100):
    """Labels of a shuffled set with equally frequent classes."""
    return rng(99).permutation(np.repeat(np.arange(classes), each)).astype(np.int32)


def members(partition):
    return [
        row[:count] for row, count in zip(partition.index, partition.count, strict=True)
    ]


@pytest.mark.parametrize("name", ALL)
@given(
    counts=st.lists(st.integers(12, 40), min_size=2, max_size=5),
    num_clients=st.integers(3, 12),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_example_has_one_owner(name, counts, num_clients, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    partition = ALL[name](rng(seed), labels, num_clients)
    assert partition.index.dtype == partition.count.dtype == np.int32
    assert partition.index.shape == (num_clients, partition.count.max())
    owned = members(partition)
    assert sorted(np.concatenate(owned)) == list(range(len(labels)))
    for row, mine in zip(partition.index, owned, strict=True):
        assert (row[len(mine) :] == -1).all() and (np.diff(mine) > 0).all()


@pytest.mark.parametrize("name", ALL)
def test_the_seed_decides(name):
    first, again = (ALL[name](rng(1), balanced(), 20) for _ in range(2))
    other = ALL[name](rng(2), balanced(), 20)
    np.testing.assert_array_equal(first.index, again.index)
    assert first.index.shape != other.index.shape or (first.index != other.index).any()


@pytest.mark.parametrize("name", ALL)
def test_more_clients_than_examples(name):
    with pytest.raises(ValueError, match="num_clients=11: expected 1 to"):
        ALL[name](rng(), balanced(2, 5), 11)
    with pytest.raises(ValueError, match="num_clients=0: expected 1 to"):
        ALL[name](rng(), balanced(2, 5), 0)


@pytest.mark.parametrize("name", ALL)
def test_examples_of_one_class_are_dealt_at_random(name):
    size = 1000
    partitioners = ALL | {"pathological": partial(pathological, classes_per_client=1)}
    partition = partitioners[name](rng(), np.zeros(size, int), 5)
    for mine in members(partition):
        # The mean of a simple random sample of 0..n-1.
        error = ((size**2 - 1) / 12 / len(mine) * (1 - len(mine) / size)) ** 0.5
        assert abs(mine.mean() - (size - 1) / 2) < 5 * error


@pytest.mark.parametrize("num_clients", [1, 7, 10, 1000])
def test_iid_sizes_differ_by_at_most_one(num_clients):
    count = iid(rng(), balanced(), num_clients).count
    assert count.max() - count.min() <= 1


def test_iid_histogram_is_hypergeometric():
    labels, num_clients = np.sort(balanced(10, 1000)), 10
    histogram = label_histogram(iid(rng(), labels, num_clients), labels, 10)
    size = len(labels) / num_clients
    variance = size * 0.1 * 0.9 * (1 - size / len(labels))
    assert abs(histogram - size / 10).max() < 5 * variance**0.5
    assert abs(histogram - size / 10).max() > 0.5 * variance**0.5


def test_a_client_of_shards_sees_as_many_classes_at_most():
    labels = balanced()
    for each in (1, 2, 5):
        partition = shards(rng(), labels, 20, shards_per_client=each)
        assert (partition.count == 50).all()
        seen = (label_histogram(partition, labels, 10) > 0).sum(axis=1)
        assert seen.max() <= each


def test_mixed_keeps_its_share():
    labels = balanced(10, 1000)
    histogram = label_histogram(mixed(rng(), labels, 100, major_share=0.9), labels, 10)
    # A class in the major part has about 900 examples and a shard 45, so a border
    # between classes falls into few shards; the rest of a client is 10 iid examples.
    main = np.sort(histogram, axis=1)[:, -2:].sum(axis=1)
    assert np.median(main) >= 90 and (main < 100).any()
    assert (histogram.sum(axis=1) == 100).all()


def test_mixed_ranges_from_iid_to_shards():
    labels = balanced()
    skews = [
        label_skew(
            label_histogram(mixed(rng(), labels, 20, major_share=share), labels, 10)
        )
        for share in (0.0, 0.5, 0.95, 1.0)
    ]
    assert skews == sorted(skews)
    pure = mixed(rng(), labels, 20, major_share=1.0)
    assert (label_histogram(pure, labels, 10) > 0).sum(axis=1).max() <= 2
    count = mixed(rng(), labels, 7, major_share=0.0).count
    assert count.max() - count.min() <= 1


@given(seed=st.integers(0, 2**32 - 1), min_size=st.integers(30, 60))
def test_dirichlet_gives_everyone_the_minimum(seed, min_size):
    partition = dirichlet(rng(seed), balanced(), 10, alpha=1.0, min_size=min_size)
    assert partition.count.min() >= min_size


def test_dirichlet_shares_have_the_variance_of_alpha():
    classes, each, num_clients = 2000, 200, 4
    labels = balanced(classes, each)
    for alpha in (0.5, 1.0, 4.0):
        partition = dirichlet(rng(), labels, num_clients, alpha=alpha)
        shares = label_histogram(partition, labels, classes)[0] / each
        mean, variance = 1 / num_clients, 3 / 16 / (num_clients * alpha + 1)
        assert abs(shares.mean() - mean) < 5 * (variance / classes) ** 0.5
        # The kurtosis of these beta variables is below 5, so the variance has a
        # relative standard error below sqrt(4 / 2000) = 4.5 %; rounding adds far less.
        assert abs(shares.var() / variance - 1) < 5 * 0.045


def test_dirichlet_balances_sizes_class_by_class():
    """Whoever has an equal part receives nothing of the classes that follow."""
    labels, clients = np.repeat(np.arange(10), 500), 8
    spread = {}
    for balancing in (False, True):
        found = dirichlet(rng(3), labels, clients, alpha=0.5, self_balancing=balancing)
        owned = label_histogram(found, labels, 10).T  # of each class, `[C, N]`
        assert (owned.sum(axis=1) == 500).all()
        before = np.cumsum(owned, axis=0)[:-1]
        full = before >= len(labels) / clients
        assert full.any()
        assert (owned[1:][full].sum() == 0) == balancing
        spread[balancing] = owned.sum(axis=0).std()
    assert spread[True] < spread[False]
    # The draws are the same, so that the first class is divided alike.
    plain = dirichlet(rng(3), labels, clients, alpha=0.5)
    first = [label_histogram(p, labels, 10)[:, 0].tolist() for p in (plain, found)]
    assert first[0] == first[1]


def test_dirichlet_without_a_minimum_may_leave_clients_empty():
    """And still gives the others what was drawn, rather than everything to one."""
    partition = dirichlet(rng(), balanced(), 20, alpha=0.01, min_size=0)
    assert (partition.count == 0).any() and (partition.count > 0).sum() > 2


def test_dirichlet_with_a_large_alpha_is_even():
    labels = balanced()
    histogram = label_histogram(dirichlet(rng(), labels, 10, alpha=1e9), labels, 10)
    # A share is 1/10 up to a few 1e-5; rounding two cuts moves a count by one at most.
    assert abs(histogram - 10).max() <= 1


def test_dirichlet_gives_up_and_says_why():
    with pytest.raises(ValueError) as refusal:
        dirichlet(rng(), balanced(), 50, alpha=0.01, min_size=15, max_retries=7)
    message = str(refusal.value)
    for part in ("alpha=0.01", "best of 7 draws", "min_size=15", "larger alpha"):
        assert part in message
    assert int(message.split("client ")[1].split()[0]) in range(50)
    assert int(message.split("has ")[1].split()[0]) < 15


@pytest.mark.parametrize("each", [1, 2, 3, 10])
@pytest.mark.parametrize("num_clients", [10, 13, 50])
def test_pathological_is_exact(each, num_clients):
    labels = balanced()
    partition = pathological(rng(), labels, num_clients, classes_per_client=each)
    histogram = label_histogram(partition, labels, 10)
    assert ((histogram > 0).sum(axis=1) == each).all()
    users = (histogram > 0).sum(axis=0)
    assert users.min() > 0 and users.max() - users.min() <= 1
    for of_class in histogram.T:
        sizes = of_class[of_class > 0]
        assert sizes.max() - sizes.min() <= 1


def test_pathological_draws_the_pairs():
    histogram = label_histogram(pathological(rng(), balanced(), 50), balanced(), 10)
    pairs = {tuple(np.flatnonzero(row)) for row in histogram}
    assert len(pairs) > 10


@pytest.mark.parametrize(
    "make, message",
    [
        (partial(shards, shards_per_client=0), "shards_per_client=0"),
        (partial(shards, shards_per_client=11), "num_clients=10: expected 1 to 9"),
        (partial(mixed, major_share=1.5), r"major_share=1.5: .* \[0, 1\]"),
        (partial(dirichlet, alpha=0), "alpha=0: expected a number > 0"),
        (partial(dirichlet, alpha=1, min_size=11), "min_size=11: expected at most 10"),
        (partial(dirichlet, alpha=1, max_retries=0), "max_retries=0"),
        (partial(pathological, classes_per_client=0), "expected 1 to 4"),
        (partial(pathological, classes_per_client=5), "expected 1 to 4"),
    ],
)
def test_values_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make(rng(), balanced(4, 25), 10)


def test_pathological_needs_a_place_for_every_class_and_examples_for_every_place():
    with pytest.raises(ValueError, match="classes_per_client=2: expected 5 to 10"):
        pathological(rng(), balanced(), 2)
    rare = np.array([0] * 30 + [1] * 3)
    with pytest.raises(ValueError, match="class 1 has 3 examples for 5 clients"):
        pathological(rng(), rare, 10, classes_per_client=1)


@given(seed=st.integers(0, 2**32 - 1), min_size=st.integers(10, 30))
def test_quantity_gives_everyone_the_minimum(seed, min_size):
    partition = quantity(rng(seed), balanced(), 10, alpha=2.0, min_size=min_size)
    assert partition.count.min() >= min_size


@pytest.mark.slow
def test_quantity_sizes_have_the_variance_of_alpha():
    size, num_clients, draws = 100_000, 4, 2000
    labels = np.zeros(size, int)
    for alpha in (0.5, 4.0):
        shares = [
            quantity(rng(seed), labels, num_clients, alpha=alpha, min_size=0).count[0]
            for seed in range(draws)
        ]
        # As for the shares of a class in the Dirichlet partition, above.
        variance = 3 / 16 / (num_clients * alpha + 1)
        assert abs(np.var(np.array(shares) / size) / variance - 1) < 5 * 0.045


def test_quantity_leaves_labels_alike():
    labels = balanced(10, 1000)
    partition = quantity(rng(), labels, 5, alpha=0.5, min_size=100)
    histogram = label_histogram(partition, labels, 10)
    expected = partition.count[:, None] / 10
    # Less than the deviation of a binomial draw of a tenth.
    assert (abs(histogram - expected) < 5 * (expected * 0.9) ** 0.5).all()
    assert np.ptp(partition.count) > 1000


@given(counts=st.lists(st.integers(1, 50), min_size=1, max_size=8))
def test_sizes_are_exact(counts):
    partition = sizes(rng(), np.zeros(sum(counts), int), counts)
    assert partition.count.tolist() == counts
    assert sorted(np.concatenate(members(partition))) == list(range(sum(counts)))


def test_sizes_are_drawn_at_random():
    first, other = (sizes(rng(n), balanced(), [500, 500]).index[0] for n in (0, 1))
    assert abs(first.mean() - 499.5) < 5 * (1000**2 / 12 / 500 / 2) ** 0.5
    assert (first != other).any()


@pytest.mark.parametrize(
    "counts, said",
    [
        ((50, 51), "expected 100 in total, all training examples, not 101"),
        ((100, 0), "sizes=0: expected at least 1 example"),
        ((), "expected 100 in total, all training examples, not 0"),
    ],
)
def test_sizes_that_do_not_fit(counts, said):
    with pytest.raises(ValueError, match=said):
        sizes(rng(), balanced(4, 25), counts)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60))
def test_natural_owners_keep_their_examples(owner):
    partition = natural(np.array(owner))
    for own, mine in zip(sorted({*owner}), members(partition), strict=True):
        assert mine.tolist() == [n for n, found in enumerate(owner) if found == own]


def test_natural_clients_must_be_as_many():
    with pytest.raises(ValueError, match="num_clients=4: expected 3, the owners of"):
        Natural()(rng(), np.array([5, 5, 9, 7]), 4)


def test_histogram_counts_labels():
    labels = balanced(5, 20)
    partition = dirichlet(rng(), labels, 4, alpha=0.5, min_size=1)
    expected = [np.bincount(labels[mine], minlength=7) for mine in members(partition)]
    np.testing.assert_array_equal(label_histogram(partition, labels, 7), expected)


def test_skew_of_known_worlds():
    same = np.outer([1, 5, 20], [2, 1, 3, 4])
    assert label_skew(same) == pytest.approx(0, abs=1e-12)
    assert label_skew(np.eye(8) * 3) == pytest.approx(1 - 1 / 8)
    # Half of each client's mass must move to turn [3, 1] and [1, 3] into [2, 2] / 4.
    assert label_skew(np.array([[3, 1], [1, 3]])) == pytest.approx(0.25)
    assert label_skew(np.array([[3, 1], [0, 0], [1, 3]])) == pytest.approx(0.25)


@given(st.lists(st.lists(st.integers(0, 50), min_size=3, max_size=3), min_size=1))
def test_skew_lies_between_zero_and_one(rows):
    histogram = np.array([*rows, [1, 1, 1]])
    assert 0 <= label_skew(histogram) <= 1


def test_skew_grows_as_alpha_falls():
    labels = balanced(10, 500)
    skews = [
        label_skew(
            label_histogram(dirichlet(rng(), labels, 10, alpha=alpha), labels, 10)
        )
        for alpha in (100, 1, 0.1)
    ]
    assert skews == sorted(skews) and skews[-1] - skews[0] > 0.3
