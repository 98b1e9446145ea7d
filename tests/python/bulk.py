"""Reads every bulk route with pandas, polars and DuckDB, and compares with its JSON.

    python bulk.py BASE PATH...      prints a line for each path; exits 1 at a difference
"""

import io
import json
import math
import sys
import tempfile
import urllib.request

import duckdb
import pandas
import polars
import pyarrow
import pyarrow.compute


def is_time(name):
    return name != "type_time" and (name.startswith("time") or name.endswith("_time"))


def fetch(url, accept):
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request) as reply:
        return reply.read()


def plain(value):
    """What JSON would say: no NaN, times as numbers."""
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def numbers(table):
    """An Arrow table as JSON's rows; its times are timestamps, which JSON gives as numbers."""
    columns = {}
    for name in table.column_names:
        column = table[name]
        assert is_time(name) == pyarrow.types.is_timestamp(column.type), (name, column.type)
        if is_time(name):
            scale = 1 if name.endswith("_msc") else 1000
            column = column.cast(pyarrow.timestamp("ms", column.type.tz)).cast(pyarrow.int64())
            column = pyarrow.compute.divide(column, scale)
        columns[name] = [plain(value) for value in column.to_pylist()]
    return [dict(zip(columns, row)) for row in zip(*columns.values())]


def check(expected, readings):
    for reader, table in readings.items():
        rows = numbers(table)
        assert len(rows) == len(expected), (reader, len(rows), len(expected))
        for row, wanted in zip(rows, expected):
            assert row == wanted, f"{reader}\n{row}\n{wanted}"


def csv_equals(expected, text, integers):
    """CSV has no types: the readers' guesses must give the values of the JSON."""
    times = [name for name in expected[0] if is_time(name)]
    frame = pandas.read_csv(io.StringIO(text), parse_dates=times, keep_default_na=False, na_values=["NaN"])
    lazy = polars.read_csv(text.encode(), try_parse_dates=True, infer_schema_length=None)
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        file.write(text.encode())
        file.flush()
        base = duckdb.sql(f"SELECT count(*) FROM read_csv('{file.name}')").fetchall()[0][0]
    assert len(frame) == len(lazy) == base == len(expected)
    assert list(frame.columns) == lazy.columns == list(expected[0])
    for name in times:
        scale = 1000 if name.endswith("_msc") else 1
        for reader, values in (("pandas", frame[name]), ("polars", lazy[name].to_list())):
            for value, row in zip(values, expected):
                moment = pandas.Timestamp(value).timestamp() * scale
                assert round(moment) == row[name], (reader, name, value, row[name])
    for name in integers:
        assert [int(value) for value in frame[name]] == [row[name] for row in expected], name


def main(base, paths):
    for path in paths:
        url = base + path
        expected = json.loads(fetch(url, "application/json"))
        if "/symbols?" in path:
            # As JSON these are names; the tables have what each symbol's own route has.
            names = expected
            expected = [json.loads(fetch(f"{base}/symbols/{urllib.request.quote(name)}", "*/*")) for name in names]
        assert expected, path
        arrow = fetch(url, "application/vnd.apache.arrow.stream")
        parquet = fetch(url, "application/vnd.apache.parquet")
        stream = pyarrow.ipc.open_stream(arrow).read_all()
        with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
            file.write(parquet)
            file.flush()
            readings = {
                "pandas, Parquet": pyarrow.Table.from_pandas(
                    pandas.read_parquet(file.name, dtype_backend="pyarrow"), preserve_index=False),
                "polars, Parquet": polars.read_parquet(file.name).to_arrow(),
                "DuckDB, Parquet": duckdb.sql(f"SELECT * FROM '{file.name}'").to_arrow_table(),
                "pandas, Arrow": pyarrow.Table.from_pandas(
                    stream.to_pandas(types_mapper=pandas.ArrowDtype), preserve_index=False),
                "polars, Arrow": polars.read_ipc_stream(io.BytesIO(arrow)).to_arrow(),
                "DuckDB, Arrow": duckdb.sql("SELECT * FROM stream").to_arrow_table(),
            }
            check(expected, readings)
        integers = [name for name, value in expected[0].items() if type(value) is int and not is_time(name)]
        csv_equals(expected, fetch(url + ("&" if "?" in path else "?") + "format=csv", "*/*").decode(), integers)
        print(f"{path}: {len(expected)} rows, {stream.schema.field(0)}")


main(sys.argv[1], sys.argv[2:])
