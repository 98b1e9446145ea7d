//! Rows as Arrow columns.
//!
//! Packed rows are read column by column, without a struct for each; records go through their serde
//! description. Every time is a timestamp in milliseconds, because Parquet and some readers have
//! none in seconds.

use std::hash::{DefaultHasher, Hash};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Float64Array, Int32Array, RecordBatch, TimestampMillisecondArray,
    UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, TimeUnit};
use arrow::error::ArrowError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_arrow::schema::{SchemaLike, TracingOptions};

use super::rows_json;
use super::table::Table;
use crate::mt5::{self, Row, RowField, Rows};

/// The type of a time.
fn timestamp(zone: Option<&str>) -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, zone.map(Into::into))
}

/// A column of times, of the type that the schema gives it.
fn times(milliseconds: TimestampMillisecondArray, described: &Field) -> ArrayRef {
    let zone = match described.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    Arc::new(milliseconds.with_timezone_opt(zone))
}

fn in_milliseconds(seconds: i64) -> i64 {
    seconds.saturating_mul(1000)
}

/// The values at one offset of every row.
fn values<const N: usize, T>(
    rows: &[u8],
    size: usize,
    offset: usize,
    read: impl Fn([u8; N]) -> T,
) -> Vec<T> {
    let field = |row: &[u8]| {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&row[offset..offset + N]);
        read(bytes)
    };
    rows.chunks_exact(size).map(field).collect()
}

/// Rows whose columns are read one after the other while they are in the processor's first cache.
const BLOCK: usize = 256;

/// Where a column of so many bytes ends in the body of a batch: the next one begins at a multiple
/// of 64.
fn padded(length: usize) -> usize {
    length.next_multiple_of(64)
}

/// Copies the field at one offset of every row.
fn copy<const N: usize>(
    rows: &[u8],
    size: usize,
    offset: usize,
    to: &mut [u8],
    convert: impl Fn([u8; N]) -> [u8; N],
) {
    for (row, to) in rows.chunks_exact(size).zip(to.as_chunks_mut().0) {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&row[offset..offset + N]);
        *to = convert(bytes);
    }
}

impl<R: Row> Table for Rows<R> {
    fn schema(zone: Option<&str>) -> Result<Arc<Schema>, ArrowError> {
        let fields = R::COLUMNS.iter().map(|column| {
            let data_type = match column.field {
                RowField::Seconds | RowField::Milliseconds => timestamp(zone),
                RowField::F64 => DataType::Float64,
                RowField::U64 => DataType::UInt64,
                RowField::I32 => DataType::Int32,
                RowField::U32 => DataType::UInt32,
            };
            Field::new(column.name, data_type, false)
        });
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    fn has_milliseconds() -> bool {
        R::COLUMNS.iter().any(|column| column.field == RowField::Milliseconds)
    }

    fn row_count(&self) -> usize {
        self.len()
    }

    fn columns(&self, rows: Range<usize>, schema: &Arc<Schema>) -> Result<RecordBatch, ArrowError> {
        let rows = self.slice(rows);
        let bytes = rows.as_bytes();
        let mut offset = 0;
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(R::COLUMNS.len());
        for (column, described) in R::COLUMNS.iter().zip(schema.fields()) {
            columns.push(match column.field {
                RowField::Seconds => {
                    let read = |bytes| in_milliseconds(i64::from_le_bytes(bytes));
                    times(values(bytes, R::SIZE, offset, read).into(), described)
                }
                RowField::Milliseconds => {
                    times(values(bytes, R::SIZE, offset, i64::from_le_bytes).into(), described)
                }
                RowField::F64 => {
                    Arc::new(Float64Array::from(values(bytes, R::SIZE, offset, f64::from_le_bytes)))
                }
                RowField::U64 => {
                    Arc::new(UInt64Array::from(values(bytes, R::SIZE, offset, u64::from_le_bytes)))
                }
                RowField::I32 => {
                    Arc::new(Int32Array::from(values(bytes, R::SIZE, offset, i32::from_le_bytes)))
                }
                RowField::U32 => {
                    Arc::new(UInt32Array::from(values(bytes, R::SIZE, offset, u32::from_le_bytes)))
                }
            });
            offset += column.field.size();
        }
        RecordBatch::try_new(schema.clone(), columns)
    }

    fn arrow_body(&self, rows: Range<usize>, to: &mut Vec<u8>) -> bool {
        let rows = self.slice(rows);
        let begin = to.len();
        let lengths = R::COLUMNS.iter().map(|column| padded(rows.len() * column.field.size()));
        to.resize(begin + lengths.sum::<usize>(), 0);
        for (index, block) in rows.as_bytes().chunks(BLOCK * R::SIZE).enumerate() {
            let (mut offset, mut start) = (0, begin);
            for column in R::COLUMNS {
                let size = column.field.size();
                let to = &mut to[start + index * BLOCK * size..];
                match column.field {
                    RowField::Seconds => copy(block, R::SIZE, offset, to, |seconds| {
                        in_milliseconds(i64::from_le_bytes(seconds)).to_le_bytes()
                    }),
                    RowField::Milliseconds | RowField::F64 | RowField::U64 => {
                        copy::<8>(block, R::SIZE, offset, to, |value| value);
                    }
                    RowField::I32 | RowField::U32 => {
                        copy::<4>(block, R::SIZE, offset, to, |value| value);
                    }
                }
                offset += size;
                start += padded(rows.len() * size);
            }
        }
        true
    }

    fn digest(&self, rows: Range<usize>, to: &mut DefaultHasher) -> serde_json::Result<()> {
        self.slice(rows).as_bytes().hash(to);
        Ok(())
    }

    fn json(&self, rows: Range<usize>, to: &mut Vec<u8>) -> serde_json::Result<()> {
        rows_json::write(&self.slice(rows), to);
        Ok(())
    }
}

/// A record of MT5 that lists consist of.
pub trait TableRecord: mt5::Record + Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: mt5::Record + Serialize + DeserializeOwned + Send + Sync + 'static> TableRecord for T {}

fn arrow(error: serde_arrow::Error) -> ArrowError {
    ArrowError::ExternalError(Box::new(error))
}

/// The fields as serde describes them, in which times are still numbers.
fn plain_fields<T: TableRecord>() -> Result<Vec<FieldRef>, ArrowError> {
    let options = TracingOptions::default().strings_as_large_utf8(false);
    Vec::<FieldRef>::from_type::<T>(options).map_err(arrow)
}

impl<T: TableRecord> Table for Vec<T> {
    fn schema(zone: Option<&str>) -> Result<Arc<Schema>, ArrowError> {
        let fields = plain_fields::<T>()?.into_iter().map(|field| {
            let name = field.name().as_str();
            if T::SECONDS.contains(&name) || T::MILLISECONDS.contains(&name) {
                Arc::new(Field::new(name, timestamp(zone), false))
            } else {
                field
            }
        });
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    fn has_milliseconds() -> bool {
        !T::MILLISECONDS.is_empty()
    }

    fn row_count(&self) -> usize {
        self.len()
    }

    fn columns(&self, rows: Range<usize>, schema: &Arc<Schema>) -> Result<RecordBatch, ArrowError> {
        let plain = serde_arrow::to_record_batch(&plain_fields::<T>()?, &&self[rows]);
        let plain = plain.map_err(arrow)?;
        let columns = plain.columns().iter().zip(schema.fields()).map(|(column, described)| {
            let name = described.name().as_str();
            let Some(numbers) = column.as_primitive_opt::<Int64Type>() else {
                return column.clone();
            };
            if T::SECONDS.contains(&name) {
                times(numbers.unary(in_milliseconds), described)
            } else if T::MILLISECONDS.contains(&name) {
                times(numbers.unary(|milliseconds| milliseconds), described)
            } else {
                column.clone()
            }
        });
        RecordBatch::try_new(schema.clone(), columns.collect())
    }

    fn digest(&self, rows: Range<usize>, to: &mut DefaultHasher) -> serde_json::Result<()> {
        let mut json = Vec::new();
        self.json(rows, &mut json)?;
        json.hash(to);
        Ok(())
    }

    fn json(&self, rows: Range<usize>, to: &mut Vec<u8>) -> serde_json::Result<()> {
        for (index, row) in self[rows].iter().enumerate() {
            if index > 0 {
                to.push(b',');
            }
            serde_json::to_writer(&mut *to, row)?;
        }
        Ok(())
    }
}
