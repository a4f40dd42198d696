//! Names that operators give: labels of credentials, and names of keys. They stand in tables, logs and metrics, and a
//! command takes an id where it takes a name.

/// Longest name, in characters.
pub(crate) const LONGEST: usize = 100;

/// What is wrong with `name` as the name of a key, if anything, as the end of a sentence: `is empty`.
pub(crate) fn problem(name: &str) -> Option<String> {
    if name.trim().is_empty() {
        return Some("is empty".to_owned());
    }
    if name.chars().count() > LONGEST {
        return Some(format!("is longer than {LONGEST} characters"));
    }
    if name.chars().any(is_hidden) {
        return Some("holds control or format characters".to_owned());
    }
    // Every id is one: whoever names one thing by the id of another would hit the wrong one.
    uuid::Uuid::try_parse(name.trim()).is_ok().then(|| "looks like an id".to_owned())
}

/// What is wrong with `label` as a label, if anything: one is a single word besides.
pub(crate) fn label_problem(label: &str) -> Option<String> {
    problem(label).or_else(|| label.chars().any(char::is_whitespace).then(|| "holds white space".to_owned()))
}

/// True for what a terminal does not show as itself: control characters, and Unicode's format characters (Cf), which turn
/// the direction of a text or take no room.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_visible_and_no_id() {
        for good in ["ci", "two words", "müller", &"x".repeat(100)] {
            assert_eq!(problem(good), None, "{good}");
        }
        for (bad, why) in [
            ("", "is empty"),
            ("  ", "is empty"),
            (&*"x".repeat(101), "is longer than 100 characters"),
            ("a\u{202e}b", "holds control or format characters"),
            ("a\nb", "holds control or format characters"),
            ("0198f2a0-7b5e-7c3a-9d1e-0123456789ab", "looks like an id"),
            ("0198F2A07B5E7C3A9D1E0123456789AB", "looks like an id"),
        ] {
            assert_eq!(problem(bad).as_deref(), Some(why), "{bad:?}");
            assert_eq!(label_problem(bad).as_deref(), Some(why), "{bad:?}");
        }
        assert_eq!(label_problem("two words").as_deref(), Some("holds white space"));
    }
}
