"""Files read in ranges of rows."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from winnow.cluster.reading import RowReader, row_places, row_ranges


def test_ranges_hold_every_row_once_in_order_and_none_reaches_into_another_row_group(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"id": range(12), "other": range(12)}), path, row_group_size=5)

    ranges = row_ranges(path, most=3)
    reader = RowReader(path, columns=["id"])
    found = [reader.read(rows) for rows in ranges]

    assert [table["id"].to_pylist() for table in found] == [[0, 1, 2], [3, 4], [5, 6, 7], [8, 9], [10, 11]]
    assert all(table.column_names == ["id"] for table in found)
    # A task that is done again, after others.
    assert reader.read(ranges[1])["id"].to_pylist() == [3, 4]


@pytest.mark.parametrize("size", [1, 5, 12])
def test_wanted_rows_are_found_in_order_whatever_the_row_groups_are(tmp_path, size):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"id": range(12)}), path, row_group_size=size)
    wanted = [0, 3, 4, 5, 9, 11]

    places = row_places(path, pa.array([number in wanted for number in range(12)]))
    reader = RowReader(path)

    assert reader.take(places)["id"].to_pylist() == wanted
    assert reader.take(places.slice(2, 3))["id"].to_pylist() == [4, 5, 9]
    assert row_places(path, pa.array([False] * 12)).num_rows == 0
