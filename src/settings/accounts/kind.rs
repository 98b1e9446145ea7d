//! The kinds of terminals.

/// The kind of a terminal.
#[derive(Clone, Copy, PartialEq)]
pub enum TerminalKind {
    Simulator,
    Worker,
}

pub const KINDS: [(&str, TerminalKind); 2] =
    [("simulator", TerminalKind::Simulator), ("worker", TerminalKind::Worker)];
