"""Data of one's own is checked where it is put together."""

import pytest
import torch

from vq_sources.data import Dataset, Split
from vq_sources.errors import DataError

pytestmark = pytest.mark.errors


def test_data_of_ones_own_is_checked() -> None:
    good = Split(torch.zeros(2, 3, 4, dtype=torch.int64), torch.tensor([0, 1]))
    data = Dataset("own", 4, (3, 4), 2, good, good, good)
    assert torch.equal(data.train.batch[0], good.images)
    for bad, message in [
        (Split(torch.zeros(2, 3, 3, dtype=torch.int64), torch.tensor([0, 1])), "shape"),
        (Split(torch.full((2, 3, 4), 4), torch.tensor([0, 1])), "0..3"),
        (Split(torch.zeros(2, 3, 4, dtype=torch.int64), torch.tensor([0, 2])), "label 1 is 2"),
        (Split(torch.zeros(2, 3, 4, dtype=torch.int64), torch.tensor([0])), "labels must be"),
    ]:
        with pytest.raises(DataError, match=message):
            Dataset("own", 4, (3, 4), 2, good, bad, good)
