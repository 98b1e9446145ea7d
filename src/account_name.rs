//! The names of accounts, which every room uses.

use crate::text::text_type;

text_type! {
    /// The name of an account in the settings, in URLs and in labels. Cheap to clone.
    AccountName
}

impl AccountName {
    /// What a name looks like.
    pub const EXPECTED: &'static str = "a name of at most 64 lower-case letters and digits, with single \
                                        underscores between, and no name of a device on Windows (con, \
                                        prn, aux, nul, com1 to com9, lpt1 to lpt9)";

    /// Reads a name from the settings. `None`: no account can be called so.
    pub fn parse(text: &str) -> Option<AccountName> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_name = text.len() <= LONGEST
            && text.split('_').all(|part| !part.is_empty() && part.bytes().all(plain))
            && !is_device(text);
        is_name.then(|| AccountName(text.into()))
    }
}

/// The most characters of a name.
const LONGEST: usize = 64;

/// Whether no file or folder on Windows can have this name. Settings move between hosts, so it is refused
/// everywhere.
fn is_device(name: &str) -> bool {
    let numbered = |device| name.strip_prefix(device).is_some_and(is_device_number);
    matches!(name, "con" | "prn" | "aux" | "nul") || numbered("com") || numbered("lpt")
}

fn is_device_number(text: &str) -> bool {
    matches!(text.as_bytes(), [b'1'..=b'9'])
}

#[cfg(test)]
mod tests {
    use super::AccountName;

    #[test]
    fn a_name_fits_into_urls_labels_and_environment_variables() {
        let longest = "a".repeat(64);
        for name in ["demo", "a", "prop_1", "1_2_3", &longest] {
            assert_eq!(AccountName::parse(name).as_deref(), Some(name), "{name}");
        }
        let too_long = "a".repeat(65);
        for name in ["", "Demo", "a-b", "_a", "a_", "a__b", "a.b", "ä", "a b", &too_long] {
            assert_eq!(AccountName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_name_is_no_device_of_windows() {
        for name in ["con", "prn", "aux", "nul", "com1", "com9", "lpt1", "lpt9"] {
            assert_eq!(AccountName::parse(name), None, "{name}");
        }
        for name in ["com", "com0", "com10", "lpt", "con_1", "nul1", "1con", "a_aux"] {
            assert_eq!(AccountName::parse(name).as_deref(), Some(name), "{name}");
        }
    }
}
