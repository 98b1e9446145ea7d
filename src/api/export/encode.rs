//! Writes rows in a format, range by range.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use arrow::csv;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::arrow_stream::ArrowStream;
use super::format::Format;
use super::table::Table;

/// Why rows cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// As JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// As Arrow columns.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// As Parquet.
    #[error(transparent)]
    Parquet(#[from] ParquetError),
}

/// Rows of a Parquet row group. An incomplete group is kept in memory.
const ROW_GROUP: usize = 65_536;

/// A time in CSV, in chrono's notation.
const MILLISECONDS: &str = "%Y-%m-%dT%H:%M:%S%.3f";

enum Writer {
    /// Whether a row was written.
    Json(bool),
    /// Whether the names were written.
    Csv(bool),
    Arrow(Box<ArrowStream>),
    Parquet(Box<ArrowWriter<Vec<u8>>>),
}

/// Writes the rows of one answer.
pub struct Encoder<T> {
    writer: Writer,
    schema: Arc<Schema>,
    table: PhantomData<fn() -> T>,
}

impl<T: Table> Encoder<T> {
    /// Begins an answer. `utc`: whether times are UTC rather than on the server's clock.
    ///
    /// # Errors
    /// If the format cannot represent the rows.
    pub fn new(format: Format, utc: bool) -> Result<Encoder<T>, EncodeError> {
        let schema = match format {
            Format::Json => Arc::new(Schema::empty()),
            // The CSV writer knows zones by their offset only.
            Format::Csv => T::schema(utc.then_some("+00:00"))?,
            Format::Arrow | Format::Parquet => T::schema(utc.then_some("UTC"))?,
        };
        let writer = match format {
            Format::Json => Writer::Json(false),
            Format::Csv => Writer::Csv(false),
            Format::Arrow => Writer::Arrow(Box::new(ArrowStream::new(&schema)?)),
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
                    .set_max_row_group_row_count(Some(ROW_GROUP))
                    .build();
                let writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties))?;
                Writer::Parquet(Box::new(writer))
            }
        };
        Ok(Encoder { writer, schema, table: PhantomData })
    }

    /// Writes some rows, and returns the bytes to send now.
    ///
    /// # Errors
    /// If the format cannot represent them.
    pub fn write(&mut self, table: &T, rows: Range<usize>) -> Result<Vec<u8>, EncodeError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        match &mut self.writer {
            Writer::Json(begun) => {
                // A bar takes about 120 bytes.
                let mut chunk = Vec::with_capacity(rows.len() * 128);
                chunk.push(if std::mem::replace(begun, true) { b',' } else { b'[' });
                table.json(rows, &mut chunk)?;
                Ok(chunk)
            }
            Writer::Csv(named) => {
                let mut chunk = Vec::new();
                let names = !std::mem::replace(named, true);
                let batch = table.columns(rows, &self.schema)?;
                let mut builder = csv::WriterBuilder::new().with_header(names);
                if T::has_milliseconds() {
                    // Readers infer text for a column in which only some times have a fraction.
                    builder = builder
                        .with_timestamp_format(MILLISECONDS.to_owned())
                        .with_timestamp_tz_format(format!("{MILLISECONDS}Z"));
                }
                builder.build(&mut chunk).write(&batch)?;
                Ok(chunk)
            }
            Writer::Arrow(writer) => Ok(writer.write(table, rows, &self.schema)?),
            Writer::Parquet(writer) => {
                let batch = table.columns(rows, &self.schema)?;
                // Compressing a row group would block the other tasks of this thread.
                tokio::task::block_in_place(|| writer.write(&batch))?;
                Ok(std::mem::take(writer.inner_mut()))
            }
        }
    }

    /// Ends the answer, and returns the bytes still to send.
    ///
    /// # Errors
    /// If the format's end cannot be written.
    pub fn finish(self) -> Result<Vec<u8>, EncodeError> {
        match self.writer {
            Writer::Json(true) => Ok(b"]".to_vec()),
            Writer::Json(false) => Ok(b"[]".to_vec()),
            Writer::Csv(true) => Ok(Vec::new()),
            Writer::Csv(false) => {
                let names: Vec<&str> =
                    self.schema.fields().iter().map(|field| field.name().as_str()).collect();
                Ok(format!("{}\n", names.join(",")).into_bytes())
            }
            Writer::Arrow(writer) => Ok(writer.finish()?),
            Writer::Parquet(mut writer) => {
                tokio::task::block_in_place(|| writer.finish())?;
                Ok(std::mem::take(writer.inner_mut()))
            }
        }
    }
}
