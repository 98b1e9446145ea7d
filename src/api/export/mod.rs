//! Rows in the format that the client accepts: JSON, CSV, Arrow or Parquet.
//!
//! [`Format`] negotiates the format. A [`Table`] is something with rows, an [`Encoder`] writes them
//! range by range, and [`answer()`] and [`stream()`] send them.

mod answer;
mod arrow_stream;
mod columns;
mod encode;
mod format;
pub mod rows_json;
mod table;

pub use self::answer::{Facts, answer, stream};
pub use self::encode::{EncodeError, Encoder};
pub use self::format::Format;
pub use self::table::Table;
