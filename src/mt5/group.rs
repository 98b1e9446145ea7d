//! MT5's group filter: `*USD*,!EUR*`.

/// A filter of symbol names. Conditions are separated by commas and applied in
/// order: a plain one includes what it matches, one that starts with `!`
/// excludes it; `*` stands for any number of characters.
/// Source: <https://www.mql5.com/en/docs/python_metatrader5/mt5symbolsget_py>.
#[derive(Debug, Clone)]
pub struct Group {
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone)]
struct Condition {
    include: bool,
    pattern: String,
}

impl Group {
    /// Reads a filter. Every text is one; empty conditions are passed over.
    pub fn parse(text: &str) -> Group {
        let conditions = text
            .split(',')
            .map(str::trim)
            .filter(|condition| !condition.is_empty())
            .map(|condition| match condition.strip_prefix('!') {
                Some(pattern) => Condition { include: false, pattern: pattern.to_owned() },
                None => Condition { include: true, pattern: condition.to_owned() },
            })
            .collect();
        Group { conditions }
    }

    /// Whether a name passes: the last condition that matches it decides. A
    /// filter of exclusions alone passes whatever it does not exclude.
    pub fn matches(&self, name: &str) -> bool {
        let only_exclusions = self.conditions.iter().all(|condition| !condition.include);
        self.conditions
            .iter()
            .rev()
            .find(|condition| wildcard(&condition.pattern, name))
            .map_or(only_exclusions, |condition| condition.include)
    }
}

/// Whether `name` is `pattern`, with `*` for any run of characters. Greedy with
/// one point to return to, so that a hostile pattern costs at most the product
/// of the two lengths.
pub fn wildcard(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            retry = Some((p + 1, n));
            p += 1;
        } else if p < pattern.len() && pattern[p] == name[n] {
            p += 1;
            n += 1;
        } else if let Some((after_star, taken)) = retry {
            p = after_star;
            n = taken + 1;
            retry = Some((after_star, taken + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::{Group, wildcard};
    use proptest::prelude::*;

    #[test]
    fn conditions_include_and_exclude_in_order() {
        let group = Group::parse("*USD*, !EUR*");
        assert!(group.matches("GBPUSD"));
        assert!(group.matches("USDJPY"));
        assert!(!group.matches("EURUSD"));
        assert!(!group.matches("EURGBP"));
        assert!(Group::parse("!EUR*").matches("GBPUSD"));
        assert!(Group::parse("EURUSD").matches("EURUSD"));
        assert!(!Group::parse("EURUSD").matches("EURUSD.m"));
        assert!(Group::parse("").matches("EURUSD"));
    }

    proptest! {
        #[test]
        fn a_pattern_made_of_pieces_of_a_name_matches_it(name in "[A-Z.]{0,12}", cut in 0usize..12) {
            let cut = cut.min(name.len());
            let pattern = format!("{}*{}", &name[..cut], &name[cut..]);
            prop_assert!(wildcard(&pattern, &name));
            prop_assert!(wildcard("*", &name));
            prop_assert!(wildcard(&name, &name));
        }
    }
}
