"""Files read in ranges of rows."""

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.cluster.reading import RangeReader, row_ranges


def test_ranges_hold_every_row_once_in_order_and_none_reaches_into_another_row_group(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"id": range(12), "other": range(12)}), path, row_group_size=5)

    ranges = row_ranges(path, most=3)
    reader = RangeReader(path, columns=["id"])
    found = [reader.read(rows) for rows in ranges]

    assert [table["id"].to_pylist() for table in found] == [[0, 1, 2], [3, 4], [5, 6, 7], [8, 9], [10, 11]]
    assert all(table.column_names == ["id"] for table in found)
    # A task that is done again, after others.
    assert reader.read(ranges[1])["id"].to_pylist() == [3, 4]
