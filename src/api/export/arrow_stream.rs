//! Arrow's stream format.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;

use super::table::Table;

/// Writes a stream of record batches.
///
/// What stands before the columns of a batch depends on its number of rows alone, if no value is
/// missing and all values of a column are of one size. So the package writes the first batch, and
/// the next ones of as many rows repeat its head. Their columns go straight to where they are sent
/// from, without an array for each and a copy of that.
pub struct ArrowStream {
    writer: StreamWriter<Vec<u8>>,
    /// The head of a batch of so many rows.
    head: Option<(usize, Vec<u8>)>,
}

impl ArrowStream {
    /// Begins a stream.
    ///
    /// # Errors
    /// If the format cannot represent the schema.
    pub fn new(schema: &Schema) -> Result<ArrowStream, ArrowError> {
        Ok(ArrowStream { writer: StreamWriter::try_new(Vec::new(), schema)?, head: None })
    }

    /// Writes some rows as a batch, and returns the bytes to send now.
    ///
    /// # Errors
    /// If they do not fit the schema.
    pub fn write<T: Table>(
        &mut self,
        table: &T,
        rows: Range<usize>,
        schema: &Arc<Schema>,
    ) -> Result<Vec<u8>, ArrowError> {
        let count = rows.len();
        if let Some((of, head)) = &self.head
            && *of == count
        {
            let mut batch = head.clone();
            table.arrow_body(rows, &mut batch);
            return Ok(batch);
        }
        // The schema is before the first batch.
        let start = self.writer.get_ref().len();
        self.writer.write(&table.columns(rows.clone(), schema)?)?;
        let written = std::mem::take(self.writer.get_mut());
        let mut body = Vec::new();
        if table.arrow_body(rows, &mut body)
            && let Some(head) = written[start..].strip_suffix(body.as_slice())
        {
            self.head = Some((count, head.to_vec()));
        }
        Ok(written)
    }

    /// Ends the stream, and returns the bytes still to send.
    ///
    /// # Errors
    /// If the end cannot be written.
    pub fn finish(mut self) -> Result<Vec<u8>, ArrowError> {
        self.writer.finish()?;
        Ok(std::mem::take(self.writer.get_mut()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mt5::{Deal, Rate, Rows, Tick};

    /// Writes these ranges. Returns whether the head of the last one was known, too.
    fn write<T: Table>(table: &T, ranges: &[Range<usize>]) -> (Vec<u8>, bool) {
        let schema = T::schema(Some("UTC")).unwrap();
        let mut ours = ArrowStream::new(&schema).unwrap();
        let mut theirs = StreamWriter::try_new(Vec::new(), &schema).unwrap();
        let mut written = Vec::new();
        let mut known = false;
        for rows in ranges {
            theirs.write(&table.columns(rows.clone(), &schema).unwrap()).unwrap();
            known = ours.head.as_ref().is_some_and(|(count, _)| *count == rows.len());
            written.extend(ours.write(table, rows.clone(), &schema).unwrap());
        }
        theirs.finish().unwrap();
        written.extend(ours.finish().unwrap());
        assert!(written == theirs.into_inner().unwrap(), "{ranges:?}");
        (written, known)
    }

    #[test]
    fn batches_are_those_that_the_package_writes() {
        let rates = (0..1_000).map(|number| Rate {
            time: if number == 7 { i64::MAX } else { number },
            open: number as f64,
            high: f64::NAN,
            low: -0.0,
            close: 0.1 * number as f64,
            tick_volume: u64::MAX - number as u64,
            spread: -(number as i32),
            real_volume: 3 * number as u64,
        });
        let rates = Rows::pack(rates);
        let ticks = (0..1_000).map(|number| Tick {
            time: number,
            bid: number as f64,
            ask: f64::INFINITY,
            last: 1.5,
            volume: number as u64,
            time_msc: 1_000 * number + 7,
            flags: u32::MAX - number as u32,
            volume_real: 0.25,
        });
        let ticks = Rows::pack(ticks);
        for (ranges, is_known) in [
            (vec![0..300, 300..600, 600..900, 900..1_000], false),
            (vec![0..256, 256..512, 512..768], true),
            (vec![0..1, 1..2, 2..3], true),
            (vec![0..65, 65..66, 66..131, 131..196], true),
            (vec![], false),
        ] {
            assert_eq!(write(&rates, &ranges).1, is_known, "{ranges:?}");
            assert_eq!(write(&ticks, &ranges).1, is_known, "{ranges:?}");
        }
    }

    #[test]
    fn batches_of_records_are_written_by_the_package() {
        let deals: Vec<Deal> = Vec::new();
        let (written, is_known) = write(&deals, &[0..0, 0..0]);
        assert!(!written.is_empty() && !is_known);
    }
}
