//! The headers of a request.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The headers of a request. A request has few and is asked for many, so each look-up is preceded by
/// one that costs next to nothing: whether any of them has a name of that length.
#[derive(Debug, Clone, Default)]
pub struct RequestHeaders {
    headers: HeaderMap,
    /// One bit for each length that occurs.
    lengths: u64,
}

impl RequestHeaders {
    /// These headers.
    pub fn new(headers: HeaderMap) -> RequestHeaders {
        let lengths = headers.keys().fold(0, |lengths, name| lengths | length(name));
        RequestHeaders { headers, lengths }
    }

    /// All of them.
    pub fn as_map(&self) -> &HeaderMap {
        &self.headers
    }

    /// Whether there is one of this name.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.may_have(name) && self.headers.contains_key(name)
    }

    /// The first value of a name.
    pub fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        if self.may_have(name) { self.headers.get(name) } else { None }
    }

    /// All values of a name, the first one first.
    pub fn get_all<'a>(
        &'a self,
        name: &HeaderName,
    ) -> impl DoubleEndedIterator<Item = &'a HeaderValue> + use<'a> {
        let values = self.may_have(name).then(|| self.headers.get_all(name));
        values.into_iter().flatten()
    }

    fn may_have(&self, name: &HeaderName) -> bool {
        self.lengths & length(name) != 0
    }
}

fn length(name: &HeaderName) -> u64 {
    1 << (name.as_str().len() % 64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_look_up_finds_what_the_map_finds(
            given in proptest::collection::vec(("[a-c]{1,3}|x{60,70}", "[a-z]{0,3}"), 0..8),
            wanted in "[a-c]{1,3}|x{60,70}",
        ) {
            let mut map = HeaderMap::new();
            for (name, value) in given {
                let name = HeaderName::try_from(name).unwrap();
                map.append(name, HeaderValue::try_from(value).unwrap());
            }
            let wanted = HeaderName::try_from(wanted).unwrap();
            let headers = RequestHeaders::new(map.clone());
            prop_assert_eq!(headers.contains(&wanted), map.contains_key(&wanted));
            prop_assert_eq!(headers.get(&wanted), map.get(&wanted));
            prop_assert!(headers.get_all(&wanted).eq(map.get_all(&wanted)));
        }
    }
}
