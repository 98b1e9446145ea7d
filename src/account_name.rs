//! The names of accounts, which every room uses.

use crate::text::text_type;

text_type! {
    /// The name of an account in the settings, in URLs and in labels. Cheap to clone.
    AccountName
}

impl AccountName {
    /// What a name looks like.
    pub const EXPECTED: &'static str =
        "a name of lower-case letters and digits, with single underscores between";

    /// Reads a name from the settings. `None`: no account can be called so.
    pub fn parse(text: &str) -> Option<AccountName> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_name = text.split('_').all(|part| !part.is_empty() && part.bytes().all(plain));
        is_name.then(|| AccountName(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::AccountName;

    #[test]
    fn a_name_fits_into_urls_labels_and_environment_variables() {
        for name in ["demo", "a", "prop_1", "1_2_3"] {
            assert_eq!(AccountName::parse(name).as_deref(), Some(name), "{name}");
        }
        for name in ["", "Demo", "a-b", "_a", "a_", "a__b", "a.b", "ä", "a b"] {
            assert_eq!(AccountName::parse(name), None, "{name}");
        }
    }
}
