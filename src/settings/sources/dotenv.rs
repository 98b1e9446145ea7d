//! `.env`: one `NAME=value` a line.
//!
//! Values are data: nothing is substituted, and only double quotes have escapes. A password may
//! contain `$`, `#` and backslashes, and `C:\new\5\terminal64.exe` stays as it is. `.env.example`
//! documents it.

/// A variable and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvVariable {
    pub line: usize,
    pub name: String,
    pub value: String,
    /// Whether an unquoted value contains what looks like a comment.
    pub has_comment: bool,
}

/// What is wrong with a line. The message never repeats the value, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineFault {
    pub line: usize,
    /// The variable's name, if it has one.
    pub name: Option<String>,
    pub message: &'static str,
}

/// Reads every line.
pub fn parse(text: &str) -> (Vec<EnvVariable>, Vec<LineFault>) {
    let (mut variables, mut faults) = (vec![], vec![]);
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match split(line) {
            Ok(parts) => parts,
            Err(message) => {
                faults.push(LineFault { line: line_number, name: None, message });
                continue;
            }
        };
        let name = name.to_owned();
        match read_value(value) {
            Ok((value, has_comment)) => {
                variables.push(EnvVariable { line: line_number, name, value, has_comment });
            }
            Err(message) => {
                faults.push(LineFault { line: line_number, name: Some(name), message });
            }
        }
    }
    (variables, faults)
}

fn split(line: &str) -> Result<(&str, &str), &'static str> {
    let line = match line.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        _ => line,
    };
    let (name, value) =
        line.split_once('=').ok_or("expected NAME=value, or a comment after `#`")?;
    let name = name.trim_end();
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '\'' || c == '"') {
        return Err("expected NAME=value with a name without blanks and quotes");
    }
    if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the name has an invisible or non-ASCII character: write the line anew");
    }
    Ok((name, value.trim_start()))
}

/// The value, and whether it has what looks like a comment.
fn read_value(text: &str) -> Result<(String, bool), &'static str> {
    match text.chars().next() {
        Some('\'') => {
            let (value, rest) =
                text[1..].split_once('\'').ok_or("the closing single quote is missing")?;
            nothing_after(rest)?;
            Ok((value.to_owned(), false))
        }
        Some('"') => Ok((read_double_quoted(&text[1..])?, false)),
        // A `#` may be part of a password, so it is never cut off.
        _ => {
            let has_comment = text.starts_with('#') || text.contains(" #") || text.contains("\t#");
            Ok((text.to_owned(), has_comment))
        }
    }
}

fn read_double_quoted(text: &str) -> Result<String, &'static str> {
    let mut value = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                nothing_after(characters.as_str())?;
                return Ok(value);
            }
            '\\' => value.push(match characters.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some(itself @ ('\\' | '"' | '\'' | '$' | '`' | ' ')) => itself,
                _ => {
                    return Err("a backslash in double quotes begins an escape, and this one is \
                                none: write the value in 'single quotes'");
                }
            }),
            other => value.push(other),
        }
    }
    Err("the closing double quote is missing")
}

fn nothing_after(rest: &str) -> Result<(), &'static str> {
    let is_blank = |text: &str| text.trim().is_empty();
    let is_comment = |text: &str| text.starts_with([' ', '\t']) && text.trim().starts_with('#');
    if is_blank(rest) || is_comment(rest) {
        return Ok(());
    }
    Err(
        "there is more after the closing quote: use the other kind of quote, or none, if the value \
         has a quote in it",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(line: &str) -> Result<String, &'static str> {
        let (variables, faults) = parse(line);
        match faults.first() {
            Some(fault) => Err(fault.message),
            None => Ok(variables.into_iter().next().expect("a line has a variable").value),
        }
    }

    #[test]
    fn values_are_taken_as_they_stand() {
        let cases = [
            (r"A=C:\new\5\terminal64.exe", r"C:\new\5\terminal64.exe"),
            (r"A='C:\new\5\terminal64.exe'", r"C:\new\5\terminal64.exe"),
            (r#"A="C:\\new\\5""#, r"C:\new\5"),
            ("A=pa$$word${HOME}", "pa$$word${HOME}"),
            ("A='pa$word'", "pa$word"),
            (r#"A="pa$word\$\"\n""#, "pa$word$\"\n"),
            ("A=a#b", "a#b"),
            ("A=a # b", "a # b"),
            ("A='a # b' # why", "a # b"),
            ("A=\"a\"   ", "a"),
            ("  export  A = b ", "b"),
            ("exported=b", "b"),
            ("A=b=c==", "b=c=="),
            ("A=", ""),
            ("A=''", ""),
            ("A=it's", "it's"),
            ("A=\"it's\"", "it's"),
            ("A=a b", "a b"),
            ("A=[1, 2]", "[1, 2]"),
            ("A=ä€", "ä€"),
            ("A=b\r", "b"),
        ];
        for (line, expected) in cases {
            assert_eq!(value(line).as_deref(), Ok(expected), "{line}");
        }
        let marked = |line: &str| parse(line).0[0].has_comment;
        assert!(marked("A=a # b") && marked("A=a\t#b") && marked("A= # b"));
        assert!(!marked("A=a#b") && !marked("A='a # b'") && !marked("A='a' # b"));
    }

    #[test]
    fn every_faulty_line_is_reported_and_the_others_are_read() {
        let text = "# comment\n\nA=1\nno assignment\nB='open\nC=\"open\n D = 2\nE=\"C:\\Users\"\n\
                    F='a'b\n=x\nG H=1\n\u{FEFF}I=1\nJ=3";
        let (variables, faults) = parse(text);
        let read: Vec<_> = variables.iter().map(|v| (v.line, v.name.as_str())).collect();
        assert_eq!(read, [(3, "A"), (7, "D"), (13, "J")]);
        let expected = [
            (4, None, "expected NAME=value"),
            (5, Some("B"), "the closing single quote"),
            (6, Some("C"), "the closing double quote"),
            (8, Some("E"), "a backslash in double quotes"),
            (9, Some("F"), "there is more after"),
            (10, None, "expected NAME=value with a name"),
            (11, None, "expected NAME=value with a name"),
            (12, None, "the name has an invisible"),
        ];
        assert_eq!(faults.len(), expected.len());
        for (fault, (line, name, message)) in faults.iter().zip(expected) {
            assert_eq!((fault.line, fault.name.as_deref()), (line, name));
            assert!(fault.message.starts_with(message), "{fault:?}");
        }
    }

    proptest! {
        #[test]
        fn an_unquoted_value_is_itself(text in r#"[^\s'"\p{C}]([^\n\r\p{C}]{0,30}[^\s\p{C}])?"#) {
            prop_assert_eq!(value(&format!("A={text}")), Ok(text));
        }

        #[test]
        fn a_single_quoted_value_is_itself(text in r"[^'\n\r]{0,30}") {
            prop_assert_eq!(value(&format!("A='{text}'")), Ok(text));
        }

        #[test]
        fn a_double_quoted_value_with_escapes_is_itself(text in r"[^\n\r]{0,30}") {
            let escaped = text.replace('\\', r"\\").replace('"', "\\\"");
            prop_assert_eq!(value(&format!("A=\"{escaped}\"")), Ok(text));
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            parse(&text);
        }
    }
}
