"""Task 1 on a CT of 1330 mm and on one of 512x512x1500 voxels."""

from __future__ import annotations

import pytest

from tests.benchmarks import long_scans


@pytest.mark.slow
def test_long_scans_need_less_than_6_gb_and_have_their_mask_on_the_grid() -> None:
    with pytest.raises(SystemExit) as end:
        long_scans.run()
    assert end.value.code == 0, end.value.code
