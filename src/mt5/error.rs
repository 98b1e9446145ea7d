//! What `last_error()` can say.

use serde::{Deserialize, Serialize};

macro_rules! error_types {
    ($($code:literal $variant:ident = $name:literal),* $(,)?) => {
        /// The error codes of the `MetaTrader5` package, by name. A code that
        /// the package does not document is `Other`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorType {
            $(#[doc = concat!("Code ", stringify!($code), ".")] $variant,)*
            /// A code that is not in the package's documentation.
            Other,
        }

        impl ErrorType {
            /// Every type, in declaration order: `ALL[error as usize] == error`.
            pub const ALL: &'static [ErrorType] = &[$(ErrorType::$variant,)* ErrorType::Other];

            /// The name, in snake case.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ErrorType::$variant => $name,)*
                    ErrorType::Other => "other",
                }
            }

            /// The code; 0 if it is not a documented one.
            pub const fn code(self) -> i64 {
                match self {
                    $(ErrorType::$variant => $code,)*
                    ErrorType::Other => 0,
                }
            }

            /// The type of a code.
            pub const fn from_code(code: i64) -> ErrorType {
                match code {
                    $($code => ErrorType::$variant,)*
                    _ => ErrorType::Other,
                }
            }
        }
    };
}

error_types! {
    -1 Fail = "fail",
    -2 InvalidParams = "invalid_params",
    -3 NoMemory = "no_memory",
    -4 NotFound = "not_found",
    -5 InvalidVersion = "invalid_version",
    -6 AuthFailed = "auth_failed",
    -7 Unsupported = "unsupported",
    -8 AutoTradingDisabled = "auto_trading_disabled",
    -10000 IpcInternal = "ipc_internal",
    -10001 IpcSend = "ipc_send",
    -10002 IpcReceive = "ipc_receive",
    -10003 IpcInitialize = "ipc_initialize",
    -10004 IpcNoConnection = "ipc_no_connection",
    -10005 IpcTimeout = "ipc_timeout",
}

/// An error as a terminal gives it: the tuple of `last_error()`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("MT5 error {code} ({name}): {message}", name = self.error_type().name())]
pub struct Error {
    /// The package's code, negative for errors; `1` is success.
    pub code: i64,
    /// The terminal's own words.
    pub message: String,
}

impl Error {
    /// An error of a documented code.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Error { code, message: message.into() }
    }

    /// `-4`: there is no such symbol, ticket or history.
    pub fn not_found(message: impl Into<String>) -> Self {
        Error::new(-4, message)
    }

    /// `-2`: the call's parameters are wrong.
    pub fn invalid_params(message: impl Into<String>) -> Self {
        Error::new(-2, message)
    }

    /// The code's name.
    pub fn error_type(&self) -> ErrorType {
        ErrorType::from_code(self.code)
    }

    /// Whether the broker refused the credentials, so that trying again soon
    /// could lock the account.
    pub fn is_refused_login(&self) -> bool {
        self.error_type() == ErrorType::AuthFailed
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, ErrorType};

    #[test]
    fn types_are_indexed_in_order() {
        for (index, error_type) in ErrorType::ALL.iter().enumerate() {
            assert_eq!(*error_type as usize, index);
        }
    }

    #[test]
    fn an_error_says_its_code_and_name() {
        let error = Error::new(-10005, "IPC timeout");
        assert_eq!(error.to_string(), "MT5 error -10005 (ipc_timeout): IPC timeout");
        assert_eq!(Error::new(-77, "?").error_type(), ErrorType::Other);
    }
}
