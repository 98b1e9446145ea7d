//! Bars and ticks as terminals give them: packed little-endian rows of a numpy
//! structured array, kept as bytes so that 100,000 of them cost one buffer.

use std::marker::PhantomData;

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

/// What a field of a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowField {
    /// A time in unix seconds, 8 bytes.
    Seconds,
    /// A time in unix milliseconds, 8 bytes.
    Milliseconds,
    /// 8 bytes.
    F64,
    /// 8 bytes.
    U64,
    /// 4 bytes.
    I32,
    /// 4 bytes.
    U32,
}

impl RowField {
    /// Bytes that a field takes.
    pub const fn size(self) -> usize {
        match self {
            RowField::Seconds | RowField::Milliseconds | RowField::F64 | RowField::U64 => 8,
            RowField::I32 | RowField::U32 => 4,
        }
    }
}

/// A field of a packed row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its name as a JSON object has it, quoted and with a colon.
    pub key: &'static str,
    /// What it is.
    pub field: RowField,
}

/// One packed row of a structured array.
pub trait Row: Copy + Serialize + Send + 'static {
    /// Its fields in the order in which they are packed.
    const COLUMNS: &'static [Column];
    /// Bytes a row takes.
    const SIZE: usize;
    /// Reads one row.
    fn read(bytes: &[u8]) -> Self;
    /// Appends one row.
    fn write(&self, buffer: &mut Vec<u8>);
    /// The row's time in unix seconds.
    fn time(&self) -> i64;
    /// The same row so many seconds later.
    fn moved(self, seconds: i64) -> Self;
}

/// The little-endian fields of a row that were not read yet.
pub struct RowFields<'a>(pub &'a [u8]);

impl RowFields<'_> {
    /// The bytes of the next field. Panics if there are fewer.
    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        let (head, tail) = self.0.split_at(N);
        field.copy_from_slice(head);
        self.0 = tail;
        field
    }
}

/// Declares a row: its fields in the order in which they are packed, the type of each, and what it
/// is as a column.
macro_rules! row {
    (
        $(#[$doc:meta])*
        $row:ident {
            $($(#[$field_doc:meta])* $field:ident: $type:ident = $column:ident,)*
        }
        fn moved($moved:ident, $seconds:ident) $body:block
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
        pub struct $row {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Row for $row {
            const COLUMNS: &'static [Column] = &[$(Column {
                name: stringify!($field),
                key: concat!("\"", stringify!($field), "\":"),
                field: RowField::$column,
            }),*];
            const SIZE: usize = 0 $(+ size_of::<$type>())*;

            fn read(bytes: &[u8]) -> Self {
                let mut fields = RowFields(bytes);
                $row { $($field: $type::from_le_bytes(fields.take()),)* }
            }

            fn write(&self, buffer: &mut Vec<u8>) {
                $(buffer.extend_from_slice(&self.$field.to_le_bytes());)*
            }

            fn time(&self) -> i64 {
                self.time
            }

            fn moved($moved, $seconds: i64) -> Self $body
        }
    };
}

row! {
    /// A bar, a row of `copy_rates_*`.
    Rate {
        /// Opening time, unix seconds of the server's clock.
        time: i64 = Seconds,
        /// First bid of the period.
        open: f64 = F64,
        /// Highest bid of the period.
        high: f64 = F64,
        /// Lowest bid of the period.
        low: f64 = F64,
        /// Last bid of the period.
        close: f64 = F64,
        /// Number of ticks.
        tick_volume: u64 = U64,
        /// Spread in points.
        spread: i32 = I32,
        /// Traded volume, where the exchange tells.
        real_volume: u64 = U64,
    }

    fn moved(self, seconds) {
        Rate { time: self.time.saturating_add(seconds), ..self }
    }
}

row! {
    /// A tick, a row of `copy_ticks_*` and the record of `symbol_info_tick`.
    Tick {
        /// Unix seconds of the server's clock.
        time: i64 = Seconds,
        /// Current bid.
        bid: f64 = F64,
        /// Current ask.
        ask: f64 = F64,
        /// Price of the last deal.
        last: f64 = F64,
        /// Volume of the last deal, whole units.
        volume: u64 = U64,
        /// Unix milliseconds of the server's clock.
        time_msc: i64 = Milliseconds,
        /// What changed: bid 2, ask 4, last 8, volume 16, buy 32, sell 64.
        flags: u32 = U32,
        /// Volume of the last deal with its fraction.
        volume_real: f64 = F64,
    }

    fn moved(self, seconds) {
        let time_msc = self.time_msc.saturating_add(seconds * 1000);
        Tick { time: self.time.saturating_add(seconds), time_msc, ..self }
    }
}

/// Rows in time's order, oldest first. Serialises as a list of objects.
#[derive(Debug, Clone)]
pub struct Rows<R> {
    bytes: Bytes,
    row: PhantomData<fn() -> R>,
}

impl<R: Row> Rows<R> {
    /// Takes packed rows over.
    ///
    /// # Errors
    /// The length, if it is not a whole number of rows.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, usize> {
        if bytes.len().is_multiple_of(R::SIZE) {
            Ok(Rows { bytes, row: PhantomData })
        } else {
            Err(bytes.len())
        }
    }

    /// Packs rows.
    pub fn pack(rows: impl IntoIterator<Item = R>) -> Self {
        let rows = rows.into_iter();
        let mut buffer = Vec::with_capacity(rows.size_hint().0 * R::SIZE);
        for row in rows {
            row.write(&mut buffer);
        }
        Rows { bytes: buffer.into(), row: PhantomData }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.bytes.len() / R::SIZE
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The packed rows.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same rows in a buffer of their own, which keeps nothing else alive.
    pub fn detached(&self) -> Self {
        Rows { bytes: Bytes::copy_from_slice(&self.bytes), row: PhantomData }
    }

    /// The rows one after the other.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = R> + ExactSizeIterator {
        self.bytes.chunks_exact(R::SIZE).map(R::read)
    }

    /// The same buffer without the rows outside `range`, which is cut to what there is.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Self {
        let end = range.end.min(self.len());
        let start = range.start.min(end);
        Rows { bytes: self.bytes.slice(start * R::SIZE..end * R::SIZE), row: PhantomData }
    }

    /// The pieces one after the other in one buffer.
    pub fn concat(pieces: &[Rows<R>]) -> Self {
        if let [only] = pieces {
            return only.clone();
        }
        let mut buffer = Vec::with_capacity(pieces.iter().map(|piece| piece.bytes.len()).sum());
        for piece in pieces {
            buffer.extend_from_slice(&piece.bytes);
        }
        Rows { bytes: buffer.into(), row: PhantomData }
    }
}

impl<R: Row> Serialize for Rows<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::{Column, Rate, Row, Rows, Tick};
    use bytes::Bytes;
    use proptest::prelude::*;

    #[test]
    fn rows_take_as_many_bytes_as_numpys() {
        assert_eq!((Rate::SIZE, Tick::SIZE), (60, 60));
        let size = |columns: &[Column]| -> usize {
            columns.iter().map(|column| column.field.size()).sum()
        };
        assert_eq!((size(Rate::COLUMNS), size(Tick::COLUMNS)), (60, 60));
    }

    proptest! {
        #[test]
        fn a_row_survives_packing(time: i64, open: f64, tick_volume: u64, spread: i32, real_volume: u64) {
            let rate = Rate { time, open, high: 1.0, low: -1.0, close: 0.0, tick_volume, spread, real_volume };
            let rows = Rows::pack([rate, rate]);
            prop_assert_eq!(rows.len(), 2);
            let back = rows.iter().next().unwrap();
            prop_assert_eq!(back.open.to_bits(), open.to_bits());
            prop_assert_eq!((back.time, back.tick_volume, back.spread, back.real_volume), (time, tick_volume, spread, real_volume));
        }

        #[test]
        fn bytes_that_are_no_whole_rows_are_refused(length in 0usize..600) {
            let rows = Rows::<Rate>::from_bytes(Bytes::from(vec![0; length]));
            prop_assert_eq!(rows.is_ok(), length % Rate::SIZE == 0);
        }
    }
}
