"""Tables of Hugging Face's kind, and Flower's partitions of them."""

import numpy as np
import pytest
from PIL import Image as Pictures

from fedjax_sl.data import (
    Columns,
    DataError,
    from_hugging_face,
    from_partitioner,
    natural,
)


class Image:
    """As `datasets.Image`: only the name of the class is looked at."""


class ClassLabel:
    def __init__(self, names):
        self.names = names


class Value:
    def __init__(self, dtype):
        self.dtype = dtype


class List:
    def __init__(self, feature):
        self.feature = feature


class Table:
    """As much of `datasets.Dataset` as is used."""

    def __init__(self, features, **columns):
        self.features, self.columns = features, columns

    def __getitem__(self, name):
        return self.columns[name]

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def rows(self, chosen):
        some = {n: [c[row] for row in chosen] for n, c in self.columns.items()}
        return Table(self.features, **some)


def picture(value, mode="L"):
    return Pictures.new(mode, (4, 4), value)


FEATURES = {"image": Image(), "label": ClassLabel(["cat", "dog"])}


def table(values, labels, **more):
    features = FEATURES | {name: Value("string") for name in more}
    return Table(features, image=[picture(v) for v in values], label=labels, **more)


def test_splits_are_converted_in_their_order():
    found = from_hugging_face(
        {"train": table([3, 1, 2], [0, 1, 1]), "test": table([9], [1])}, name="mine"
    )
    assert found.keys() == {"train", "test"}
    assert found["train"].image[:, 0, 0, 0].tolist() == [3, 1, 2]
    assert found["train"].label.tolist() == [0, 1, 1]
    for split in found.values():
        assert split.class_names == ("cat", "dog") and split.name == "mine"


def test_owners_are_those_of_their_column():
    rows = table([1, 2, 3], [0, 1, 0], writer=["z", "a", "z"])
    found = from_hugging_face(
        {"train": rows, "test": table([9], [1])}, columns=Columns(client="writer")
    )
    assert found["train"].client.tolist() == [1, 0, 1] and found["test"].client is None


def test_the_only_columns_of_their_kind_are_found():
    odd = Table(
        {"id": Value("int64"), "img": Image(), "fine": ClassLabel(["a", "b"])},
        id=[7, 8],
        img=[picture((1, 2, 3), "RGB"), picture((4, 5, 6), "RGB")],
        fine=[0, 1],
    )
    found = from_hugging_face({"train": odd}, image_size=2)["train"]
    assert found.image.shape == (2, 2, 2, 3) and found.class_names == ("a", "b")


def test_images_may_be_lists_of_numbers():
    features = {"image": List(List(Value("uint8"))), "label": Value("int64")}
    rows = Table(features, image=[[[1, 2], [3, 4]], [[5, 6], [7, 8]]], label=[1, 0])
    found = from_hugging_face({"train": rows})["train"]
    assert found.image.dtype == np.uint8 and found.class_names == ("0", "1")
    assert found.image[..., 0].tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]


class Evens:
    """A partitioner as flwr-datasets has them: the even examples, and the odd ones."""

    num_partitions = 2

    def __init__(self, dataset):
        self.dataset = dataset

    def load_partition(self, partition_id):
        return self.dataset.rows(range(partition_id, len(self.dataset), 2))


def test_a_partitioner_s_partitions_stay_its_own():
    whole = table(range(5), [0, 1, 0, 1, 0])
    found = from_partitioner(Evens(whole))
    partition = natural(found.client)
    for number, (row, count) in enumerate(zip(*partition, strict=True)):
        part = Evens(whole).load_partition(number)
        mine = row[:count]
        values = [np.asarray(one)[0, 0] for one in part["image"]]
        assert found.image[mine, 0, 0, 0].tolist() == values
        assert found.label[mine].tolist() == part["label"]


@pytest.mark.parametrize(
    "splits, said",
    [
        ({"test": table([1], [0])}, r"\['test'\]: expected splits by name, 'train'"),
        (table([1], [0]), "Table: expected splits by name"),
        ({"train": table([1, 2], [0, 0])}, "class 'dog' .label 1. has no training"),
        ({"train": table([], [])}, "it has no examples"),
        (
            {"train": Table({"text": Value("string")}, text=["a"])},
            "columns {'text': 'Value'}: expected 'image', or one Image column",
        ),
        ({"train": table([1, 2], [0, 1]), "test": table([1], [-1])}, "label=-1"),
        ({"train": table([1, 2], [0, [1, 1]])}, "label holds no labels"),
    ],
)
def test_what_is_refused(splits, said):
    with pytest.raises(ValueError, match=said):
        from_hugging_face(splits)


def test_a_partition_without_examples_is_refused():
    """The others would be other clients' than they say."""
    with pytest.raises(DataError, match="partition 1 has no examples"):
        from_partitioner(Evens(table([1], [0])))


def test_columns_that_do_not_exist():
    splits = {"train": table([1, 2], [0, 1])}
    with pytest.raises(DataError, match="expected 'writer'[.]"):
        from_hugging_face(splits, columns=Columns(client="writer"))
    two = {"train": Table({"a": Image(), "b": Image(), "label": ClassLabel(["x"])})}
    with pytest.raises(DataError, match="expected 'image', or one Image column"):
        from_hugging_face(two)


def test_a_partitioner_that_does_not_tell_its_number():
    nameless = Evens(table(range(4), [0, 1, 0, 1]))
    nameless.num_partitions = None
    with pytest.raises(DataError, match="num_clients=None"):
        from_partitioner(nameless)
    assert from_partitioner(nameless, num_clients=2).client.tolist() == [0, 0, 1, 1]


def test_a_partitioner_of_flwr_datasets():
    """Where it is installed: its partitions are those that clients get."""
    datasets = pytest.importorskip("datasets")
    of_flower = pytest.importorskip("flwr_datasets.partitioner")
    features = datasets.Features(
        img=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"])
    )
    rows = {"img": [picture(n) for n in range(40)], "label": [0, 1] * 20}
    partitioner = of_flower.DirichletPartitioner(
        num_partitions=3, partition_by="label", alpha=1.0, min_partition_size=2
    )
    partitioner.dataset = datasets.Dataset.from_dict(rows, features=features)
    found = from_partitioner(partitioner)
    assert sorted(found.image[:, 0, 0, 0]) == list(range(40))
    assert (found.label == found.image[:, 0, 0, 0] % 2).all()
    for number in range(3):
        part = partitioner.load_partition(number)
        assert found.label[found.client == number].tolist() == list(part["label"])
