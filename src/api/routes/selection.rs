//! Which open positions or pending orders are asked for.

use crate::api::authorized::AccountRequest;
use crate::api::problem::Problem;
use crate::mt5::{Group, Selection};

/// What to ask the terminal for, and the group to apply to its answer: the package takes a symbol or a
/// group, not both.
///
/// # Errors
/// 400 for parameters other than `symbol` and `group`.
pub fn selection(request: &AccountRequest) -> Result<(Selection, Option<Group>), Problem> {
    let mut parameters = request.parameters()?;
    let symbol: Option<String> = parameters.optional("symbol")?;
    let group: Option<String> = parameters.optional("group")?;
    parameters.finish()?;
    Ok(match (symbol, group) {
        (None, None) => (Selection::All, None),
        (None, Some(group)) => (Selection::Group(group), None),
        (Some(symbol), group) => (Selection::Symbol(symbol), group.as_deref().map(Group::parse)),
    })
}
