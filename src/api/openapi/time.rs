//! The schema of a time.

use std::borrow::Cow;

use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::api::filters::moment::{FIRST, LAST};

/// A time, as `from`, `to` and `expiration` take it.
pub struct TimeBody;

impl ToSchema for TimeBody {
    fn name() -> Cow<'static, str> {
        "Time".into()
    }
}

impl PartialSchema for TimeBody {
    fn schema() -> RefOr<Schema> {
        let text = |format| {
            ObjectBuilder::new()
                .schema_type(Type::String)
                .format(Some(SchemaFormat::KnownFormat(format)))
        };
        let seconds = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(FIRST))
            .maximum(Some(LAST))
            .description(Some("Unix seconds; not eight digits that can be read as a date"));
        let spelled = ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(
                "^([Tt][Oo][Dd][Aa][Yy]|[0-9]{4}[._][0-9]{2}[._][0-9]{2}([ _][0-9:_]+)?)$",
            ))
            .description(Some("`today`, or as MT5 or the older clients write it"));
        AnyOfBuilder::new()
            .description(Some(
                "A time from 1970 to 3000. A date is midnight on the server's clock.",
            ))
            .item(seconds)
            .item(text(KnownFormat::DateTime).description(Some("RFC 3339, with its zone")))
            .item(text(KnownFormat::Date))
            .item(spelled)
            .into()
    }
}
