//! What is wrong with a setting.

/// A fault in the settings. It never repeats a value, which may be a misplaced secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{key}{}{message}{}",
    if key.is_empty() { "" } else { ": " },
    if origin.is_empty() { String::new() } else { format!(" (from {origin})") },
)]
pub struct SettingFault {
    /// The setting's key. Empty: a whole source is wrong.
    pub key: String,
    /// The source of its value. Empty: the setting is missing.
    pub origin: String,
    /// What was expected.
    pub message: String,
}
