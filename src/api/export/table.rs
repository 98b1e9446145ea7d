//! Something with rows, in the terms that every format needs.

use std::hash::DefaultHasher;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;

/// Something with rows.
pub trait Table: Send + Sync + 'static {
    /// The columns. `zone` is the time zone of all times, if it is known.
    ///
    /// # Errors
    /// If the records cannot be described as columns.
    fn schema(zone: Option<&str>) -> Result<Arc<Schema>, ArrowError>;
    /// Whether a column has times with milliseconds.
    fn has_milliseconds() -> bool;
    /// Number of rows.
    fn row_count(&self) -> usize;
    /// A range of rows as columns.
    ///
    /// # Errors
    /// If they do not fit the schema.
    fn columns(&self, rows: Range<usize>, schema: &Arc<Schema>) -> Result<RecordBatch, ArrowError>;
    /// Appends the columns as the body of an Arrow batch has them. `false`: only the package knows.
    fn arrow_body(&self, _rows: Range<usize>, _to: &mut Vec<u8>) -> bool {
        false
    }
    /// Adds some rows to the hash that identifies all of them.
    ///
    /// # Errors
    /// If they cannot be serialized.
    fn digest(&self, rows: Range<usize>, to: &mut DefaultHasher) -> serde_json::Result<()>;
    /// Appends some rows as JSON objects, separated by commas.
    ///
    /// # Errors
    /// If they cannot be serialized.
    fn json(&self, rows: Range<usize>, to: &mut Vec<u8>) -> serde_json::Result<()>;
}
