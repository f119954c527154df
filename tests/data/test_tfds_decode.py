"""Records are decoded at the same time, and come in their order."""

import io
from threading import Barrier
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fedjax_sl.data.data_error import DataError
from fedjax_sl.data.tfds_decode import AT_ONCE, _examples


pytest.importorskip("tensorflow_datasets")


def record(grey):
    file = io.BytesIO()
    Image.new("L", (2, 2), grey % 256).save(file, "png")
    return {"image": file.getvalue(), "label": grey}


def found(records, convert=np.asarray):
    """Of a set whose reader is a list; a real one is read in `test_sources`."""
    builder = SimpleNamespace(
        name="stub", data_path="here", as_data_source=lambda *_, **__: records
    )
    return list(_examples(builder, "train", convert))


def test_the_order_is_that_of_the_records():
    several = found([record(n) for n in range(2 * AT_ONCE + 3)])
    assert [label for _, label, _ in several] == list(range(2 * AT_ONCE + 3))
    assert all((image == label % 256).all() for image, label, _ in several)


def test_two_are_decoded_at_once():
    """Each waits for the other."""
    both = Barrier(2, timeout=60)

    def convert(picture):
        both.wait()
        return np.asarray(picture)

    assert len(found([record(n) for n in range(4)], convert)) == 4


def test_the_first_that_is_damaged_is_named():
    records = [record(n) for n in range(5)]
    for damaged in (2, 3):
        records[damaged]["image"] = b"no picture"
    with pytest.raises(DataError, match="example 2 of split='train' of stub"):
        found(records)
