//! Packed rows as JSON, straight from their bytes.

use crate::mt5::{Row, RowField, RowFields, Rows};

/// Appends a JSON object for each row, separated by commas, without brackets around them.
pub fn write<R: Row>(rows: &Rows<R>, to: &mut Vec<u8>) {
    write_packed::<R>(rows.as_bytes(), to);
}

/// One row as a JSON object.
pub fn one<R: Row>(row: &R) -> Vec<u8> {
    let mut packed = Vec::with_capacity(R::SIZE);
    row.write(&mut packed);
    let mut object = Vec::with_capacity(256);
    write_packed::<R>(&packed, &mut object);
    object
}

fn write_packed<R: Row>(rows: &[u8], to: &mut Vec<u8>) {
    for (index, row) in rows.chunks_exact(R::SIZE).enumerate() {
        if index > 0 {
            to.push(b',');
        }
        let mut values = RowFields(row);
        for (place, column) in R::COLUMNS.iter().enumerate() {
            to.push(if place == 0 { b'{' } else { b',' });
            to.extend_from_slice(column.key.as_bytes());
            write_field(column.field, &mut values, to);
        }
        to.push(b'}');
    }
}

fn write_field(field: RowField, values: &mut RowFields<'_>, to: &mut Vec<u8>) {
    let mut integer = itoa::Buffer::new();
    let text = match field {
        RowField::Seconds | RowField::Milliseconds => {
            integer.format(i64::from_le_bytes(values.take()))
        }
        RowField::U64 => integer.format(u64::from_le_bytes(values.take())),
        RowField::I32 => integer.format(i32::from_le_bytes(values.take())),
        RowField::U32 => integer.format(u32::from_le_bytes(values.take())),
        RowField::F64 => {
            let number = f64::from_le_bytes(values.take());
            let mut real = zmij::Buffer::new();
            // JSON has no infinity and no NaN.
            let text = if number.is_finite() { real.format_finite(number) } else { "null" };
            to.extend_from_slice(text.as_bytes());
            return;
        }
    };
    to.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::write;
    use crate::mt5::{Rate, Rows, Tick};

    proptest! {
        #[test]
        fn rows_are_written_as_serde_would(
            time: i64, prices: [f64; 4], volumes: [u64; 2], spread: i32, flags: u32,
        ) {
            let [open, high, low, close] = prices;
            let [tick_volume, real_volume] = volumes;
            let rate = Rate { time, open, high, low, close, tick_volume, spread, real_volume };
            let tick = Tick {
                time, bid: open, ask: high, last: low, volume: tick_volume,
                time_msc: time, flags, volume_real: f64::NAN,
            };
            let mut written = b"[".to_vec();
            write(&Rows::pack([rate, rate]), &mut written);
            written.push(b']');
            prop_assert_eq!(written, serde_json::to_vec(&[rate, rate]).unwrap());
            let mut written = vec![];
            write(&Rows::pack([tick]), &mut written);
            prop_assert_eq!(written, serde_json::to_vec(&tick).unwrap());
        }
    }
}
