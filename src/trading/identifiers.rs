//! The names of a trade: its own id, and the client's key.

use crate::text::text_type;

text_type! {
    /// The gateway's own id of a trade: a UUID of version 7 without dashes, so that it grows with time.
    TradeId
}

impl TradeId {
    /// The longest that is looked up, in bytes. Those that the gateway makes are shorter.
    const LONGEST: usize = 64;

    /// A new one.
    pub fn random() -> TradeId {
        TradeId(uuid::Uuid::now_v7().simple().to_string().into())
    }

    /// Reads a client's text. `None`: it cannot be the id of a trade.
    pub fn parse(text: &str) -> Option<TradeId> {
        let fits = (1..=TradeId::LONGEST).contains(&text.len());
        (fits && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| TradeId(text.into()))
    }
}

text_type! {
    /// A client's `Idempotency-Key`: 1 to 255 visible ASCII characters.
    IdempotencyKey
}

impl IdempotencyKey {
    /// Reads a client's text. `None`: it is no key.
    pub fn parse(text: &str) -> Option<IdempotencyKey> {
        let fits = (1..=255).contains(&text.len());
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        (fits && plain).then(|| IdempotencyKey(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_keys_are_visible_ascii_of_limited_length() {
        let id = TradeId::random();
        assert_eq!(TradeId::parse(&id), Some(id));
        for (length, id, key) in [
            (0, false, false),
            (1, true, true),
            (64, true, true),
            (65, false, true),
            (256, false, false),
        ] {
            let text = "x".repeat(length);
            assert_eq!(TradeId::parse(&text).is_some(), id, "{length}");
            assert_eq!(IdempotencyKey::parse(&text).is_some(), key, "{length}");
        }
        for text in ["a b", "a\n", "ä", "\u{7f}"] {
            assert_eq!(
                (TradeId::parse(text), IdempotencyKey::parse(text)),
                (None, None),
                "{text:?}"
            );
        }
    }
}
