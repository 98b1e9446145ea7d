//! The tag at the end of a comment, by which the gateway recognises its own
//! trades when an answer is lost: `~`, six random characters, two that follow
//! from them. The last two keep a client's own text from being taken for one.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::mt5::ReplyFields;

/// Characters of a tag.
pub const LENGTH: usize = 9;

/// UTF-16 units that a comment may have and still be tagged.
pub const LONGEST_COMMENT: usize = 20;

/// Digits and letters without those that look alike (Crockford's base 32).
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A new tag.
pub fn random() -> String {
    let digits: [u8; 6] = std::array::from_fn(|_| ALPHABET[rand::random_range(0..32)]);
    let mut tag = String::with_capacity(LENGTH);
    tag.push('~');
    tag.extend(digits.iter().chain(&check(&digits)).map(|digit| char::from(*digit)));
    tag
}

fn check(digits: &[u8]) -> [u8; 2] {
    let digest = Sha256::digest(digits);
    [ALPHABET[usize::from(digest[0] % 32)], ALPHABET[usize::from(digest[1] % 32)]]
}

/// The tag at the end of a comment, if it is whole.
pub fn find(comment: &str) -> Option<&str> {
    let start = comment.len().checked_sub(LENGTH)?;
    let tag = comment.get(start..)?;
    let digits = tag.strip_prefix('~')?.as_bytes();
    (check(&digits[..6]) == digits[6..]).then_some(tag)
}

/// What a comment at the broker says about a trade whose comment carried a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    /// It carries the tag, or enough of it to identify the trade.
    Ours,
    /// It may be what a broker left of the comment: its beginning, or nothing.
    Possible,
    /// It is another comment.
    Foreign,
}

/// Random characters that identify a tag that was cut. The chance of a match by accident is one in a million.
const DECISIVE: usize = 4;

/// Compares a comment at the broker with the one that was sent, which ends in `tag`. Brokers cut
/// comments at their end, drop them, or add to them.
pub fn trace(comment: &str, sent: &str, tag: &str) -> Trace {
    if comment.contains(tag) {
        return Trace::Ours;
    }
    if !sent.starts_with(comment) {
        return Trace::Foreign;
    }
    let own = sent.len() - tag.len();
    // The tag begins with `~`, which is not random.
    let random = comment.len().saturating_sub(own + 1);
    if random >= DECISIVE { Trace::Ours } else { Trace::Possible }
}

/// A comment as its author wrote it.
pub fn strip(comment: &str) -> Cow<'_, str> {
    match find(comment) {
        Some(tag) => Cow::Owned(comment[..comment.len() - tag.len()].to_owned()),
        None => Cow::Borrowed(comment),
    }
}

/// Takes the tags out of a reply.
pub fn strip_answer(reply: &mut impl ReplyFields) {
    reply.edit_comments(&mut |comment| {
        if let Some(tag) = find(comment) {
            comment.truncate(comment.len() - tag.len());
        }
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_tagged_is_found_and_stripped(comment in "\\PC{0,20}") {
            let tag = random();
            prop_assert_eq!(tag.len(), LENGTH);
            let tagged = format!("{comment}{tag}");
            prop_assert_eq!(find(&tagged), Some(&*tag));
            prop_assert_eq!(strip(&tagged), comment);
        }

        #[test]
        fn a_cut_comment_is_ours_as_long_as_enough_of_the_tag_is_left(
            comment in "[a-z ~]{0,20}",
            kept in 0usize..30,
        ) {
            let tag = random();
            let sent = format!("{comment}{tag}");
            let kept = kept.min(sent.len());
            let left = kept.saturating_sub(comment.len() + 1);
            let expected = if left >= 4 { Trace::Ours } else { Trace::Possible };
            prop_assert_eq!(trace(&sent[..kept], &sent, &tag), expected);
            prop_assert_eq!(trace(&format!("{sent} [sl]"), &sent, &tag), Trace::Ours);
            prop_assert_eq!(trace("by hand", &sent, &tag), Trace::Foreign);
            prop_assert_eq!(trace(&format!("x{}", random()), &sent, &tag), Trace::Foreign);
        }

        #[test]
        fn a_cut_tag_is_none(cut in 1..LENGTH) {
            let tag = random();
            prop_assert_eq!(find(&tag[..LENGTH - cut]), None);
        }

        #[test]
        fn only_a_valid_tag_at_the_very_end_is_stripped(
            comment in "\\PC{0,20}",
            behind in "[^~]{1,20}",
            place in 7..LENGTH,
            other in 1..32usize,
        ) {
            let tag = random();
            let followed = format!("{comment}{tag}{behind}");
            prop_assert_eq!(strip(&followed), followed.as_str());
            // Another character in the place of one of those that follow from the random ones.
            let mut forged = tag.into_bytes();
            let present = ALPHABET.iter().position(|letter| *letter == forged[place]).unwrap();
            forged[place] = ALPHABET[(present + other) % 32];
            let forged = format!("{comment}{}", String::from_utf8(forged).unwrap());
            prop_assert_eq!(strip(&forged), forged.as_str());
        }
    }

    #[test]
    fn text_that_only_looks_like_a_tag_is_kept() {
        assert_eq!(strip("grid ~level001"), "grid ~level001");
    }
}
