//! Rust source with its comments and the insides of its strings blanked, so that a rule about code
//! is not broken by words about code. Lines and columns stay where they are.

/// What the scanner stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Code,
    LineComment,
    /// How deep: block comments nest.
    BlockComment(usize),
    Text,
    /// With how many `#` around it.
    RawText(usize),
}

pub(super) fn blank(source: &str) -> String {
    let mut place = Place::Code;
    let mut blanked = String::with_capacity(source.len());
    let mut rest = source;
    while !rest.is_empty() {
        let (taken, next) = step(place, rest, blanked.chars().next_back());
        let (piece, after) = rest.split_at(taken);
        // A quote taken alone is that of a lifetime.
        let literal = piece.starts_with('\'') && piece.len() > 1;
        if place == Place::Code && next == Place::Code && !literal {
            blanked.push_str(piece);
        } else {
            blanked.extend(piece.chars().map(|c| if c == '\n' { c } else { ' ' }));
        }
        (place, rest) = (next, after);
    }
    blanked
}

/// Blanked code without its items that only tests have: whatever follows `#[cfg(test)]`.
pub(super) fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let margin = line.len() - line.trim_start().len();
        if line.trim_start().starts_with("#[cfg(test)]") {
            skip_item(&mut lines, margin);
        } else {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Goes behind an item that begins after its attributes at this margin.
fn skip_item<'a>(lines: &mut impl Iterator<Item = &'a str>, margin: usize) {
    let head = lines.find(|line| !line.trim_start().starts_with("#["));
    if head.is_some_and(|head| !head.ends_with(['}', ';'])) {
        let closes = |line: &&str| {
            line.len() - line.trim_start().len() == margin && line.trim_start().starts_with('}')
        };
        lines.find(closes);
    }
}

/// How many bytes to take at once, and where that leads.
fn step(place: Place, rest: &str, before: Option<char>) -> (usize, Place) {
    let first = rest.chars().next().map_or(1, char::len_utf8);
    match place {
        Place::Code => code(rest, before).unwrap_or((first, Place::Code)),
        Place::LineComment if rest.starts_with('\n') => (1, Place::Code),
        Place::BlockComment(depth) if rest.starts_with("/*") => (2, Place::BlockComment(depth + 1)),
        Place::BlockComment(1) if rest.starts_with("*/") => (2, Place::Code),
        Place::BlockComment(depth) if rest.starts_with("*/") => (2, Place::BlockComment(depth - 1)),
        Place::Text if rest.starts_with('\\') => {
            (rest.chars().take(2).map(char::len_utf8).sum(), Place::Text)
        }
        Place::Text if rest.starts_with('"') => (1, Place::Code),
        Place::RawText(hashes) if ends_raw(rest, hashes) => (1 + hashes, Place::Code),
        Place::LineComment | Place::BlockComment(_) | Place::Text | Place::RawText(_) => {
            (first, place)
        }
    }
}

/// What begins here other than a plain character of code.
fn code(rest: &str, before: Option<char>) -> Option<(usize, Place)> {
    if rest.starts_with("//") {
        return Some((2, Place::LineComment));
    }
    if rest.starts_with("/*") {
        return Some((2, Place::BlockComment(1)));
    }
    if rest.starts_with('"') {
        return Some((1, Place::Text));
    }
    if rest.starts_with('\'') {
        return character(rest).map(|length| (length, Place::Code));
    }
    // The `r` of a raw string may follow the `b` of bytes or the `c` of a C string, no other letter.
    let follows_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let raw = rest
        .strip_prefix('r')
        .filter(|_| !follows_name || matches!(before, Some('b' | 'c')))?;
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    let opened = raw.trim_start_matches('#').starts_with('"');
    opened.then_some((2 + hashes, Place::RawText(hashes)))
}

/// The length of a character literal; `None` for a lifetime.
fn character(rest: &str) -> Option<usize> {
    let mut inside = rest.char_indices().skip(1);
    let (_, first) = inside.next()?;
    if first == '\\' {
        inside.next();
        return inside.find(|(_, c)| *c == '\'').map(|(at, _)| at + 1);
    }
    let (at, second) = inside.next()?;
    (second == '\'').then_some(at + 1)
}

fn ends_raw(rest: &str, hashes: usize) -> bool {
    rest.strip_prefix('"').is_some_and(|after| {
        after
            .bytes()
            .take(hashes)
            .filter(|byte| *byte == b'#')
            .count()
            == hashes
    })
}

#[cfg(test)]
mod tests {
    use super::{blank, without_tests};

    #[track_caller]
    fn check(source: &str, expected: &str) {
        assert_eq!(blank(source), expected);
    }

    #[test]
    fn code_stays() {
        check(
            "let x = b as u8;\nlet r = a / b;",
            "let x = b as u8;\nlet r = a / b;",
        );
        check("fn f<'a>(s: &'a str) {}", "fn f<'a>(s: &'a str) {}");
    }

    #[test]
    fn what_only_tests_have_goes() {
        for tests in [
            "#[cfg(test)]\nmod tests;\n",
            "#[cfg(test)]\nuse a::{\n    b,\n};\n",
            "#[cfg(test)]\n#[path = x]\nmod tests {\n    fn f() {\n    }\n}\n",
            "    #[cfg(test)]\n    fn f() {\n        if x {\n        }\n    }\n",
        ] {
            let code = format!("a\n{tests}b\n");
            assert_eq!(without_tests(&code), "a\nb\n");
        }
    }

    #[test]
    fn comments_go() {
        check("a // word\nb", "a        \nb");
        check("a /* x /* y */ z\n */ b", "a               \n    b");
    }

    #[test]
    fn strings_go() {
        check(r#"f("a\"b") + g"#, "f(      ) + g");
        check("f(r#\"a\"\n\"#) + g", "f(     \n  ) + g");
        check(r#"f(br"\") + g"#, "f(b    ) + g");
        check("f(r#type)", "f(r#type)");
    }

    #[test]
    fn characters_go_and_do_not_open_strings() {
        check(
            "f('\"', '\\'', '\\u{41}', 'x') + g",
            "f(   ,     ,         ,    ) + g",
        );
    }
}
