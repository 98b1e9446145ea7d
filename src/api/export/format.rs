//! The format that a client accepts.

use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::api::authorized::AuthorizedRequest;
use crate::api::context::shorten;
use crate::api::filters::query::Parameters;
use crate::api::problem::{Problem, ProblemType};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum Format {
    /// A list of objects.
    Json,
    /// A stream of Arrow record batches.
    Arrow,
    /// A Parquet file.
    Parquet,
    /// A line of names, and a line for each row.
    Csv,
}

impl Format {
    /// Every format. Clients that accept any get the first.
    pub const ALL: &'static [Format] = Format::VARIANTS;

    /// Its name in the parameter `format`.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Its media type in `Accept`.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Arrow => "application/vnd.apache.arrow.stream",
            Format::Parquet => "application/vnd.apache.parquet",
            Format::Csv => "text/csv",
        }
    }

    /// Its media type in `Content-Type`, with parameters.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Csv => "text/csv; charset=utf-8; header=present",
            other => other.media_type(),
        }
    }

    /// Takes the parameter `format`, or else negotiates by `Accept`.
    ///
    /// # Errors
    /// 406 if there is no such format, or the two disagree.
    pub fn take(call: &AuthorizedRequest, parameters: &mut Parameters) -> Result<Format, Problem> {
        if let Some(name) = parameters.optional::<String>("format")? {
            let format: Format = name.parse().map_err(|_| {
                let name = shorten(&name);
                let names: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
                let names = names.join(", ");
                let detail = format!("parameter `format`: expected {names}, got {name:?}");
                Problem::new(ProblemType::NotAcceptable, detail)
            })?;
            return if call.quality(format.media_type())? > 0.0 {
                Ok(format)
            } else {
                let detail = format!(
                    "parameter `format` is {} and the header `Accept` does not take {}",
                    format.name(),
                    format.media_type()
                );
                Err(Problem::new(ProblemType::NotAcceptable, detail))
            };
        }
        let mut best = (0.0, None);
        for &format in Format::ALL {
            let quality = call.quality(format.media_type())?;
            if quality > best.0 {
                best = (quality, Some(format));
            }
        }
        best.1.ok_or_else(|| {
            let types: Vec<&str> = Format::ALL.iter().map(|format| format.media_type()).collect();
            let types = types.join(", ");
            Problem::new(ProblemType::NotAcceptable, format!("this route answers {types}"))
        })
    }
}
