//! A route's regular expression: its text, and an automaton that decides what a range can hold.
//!
//! Expressions read bytes, because keys are bytes: `.` is any byte but a line feed, and `\w`, `\d`
//! and `(?i)` are those of ASCII, as in Go.

mod automaton;
mod set;
mod walk;

use regex_automata::util::syntax;

pub(crate) use automaton::Automaton;
pub(crate) use set::RegexpSet;

/// Why an expression cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegexpError {
    /// With the parser's own words.
    #[error("{0}")]
    Syntax(String),
    /// Larger than what may be built of it.
    #[error("too large for an automaton: {0}")]
    Nfa(#[source] Box<regex_automata::nfa::thompson::BuildError>),
    /// The same, or with a Unicode word boundary.
    #[error("too large or not decidable by an automaton: {0}")]
    Automaton(#[source] Box<regex_automata::dfa::dense::BuildError>),
    /// The automaton has no state to begin in.
    #[error("not decidable by an automaton")]
    NoStart,
}

/// One expression.
#[derive(Debug)]
pub(crate) struct Regexp {
    pattern: String,
    automaton: Automaton,
}

/// How every expression is read.
pub(crate) fn syntax() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

impl Regexp {
    pub(crate) fn new(pattern: &str) -> Result<Self, RegexpError> {
        if let Err(error) = syntax::parse_with(pattern, &syntax()) {
            return Err(RegexpError::Syntax(reason(&error.to_string())));
        }
        Ok(Self {
            pattern: pattern.to_owned(),
            automaton: Automaton::new(pattern)?,
        })
    }

    pub(crate) fn pattern(&self) -> &str {
        &self.pattern
    }

    pub(crate) fn automaton(&self) -> &Automaton {
        &self.automaton
    }

    pub(crate) fn matches_nothing(&self) -> bool {
        self.automaton.is_dead()
    }

    /// The expression with a `^` in front, where it can match in the midst of a key.
    pub(crate) fn anchored_form(&self) -> Option<String> {
        if !self.automaton.matches_after_anything() {
            return None;
        }
        let pattern = self
            .pattern
            .trim_start_matches('^')
            .trim_start_matches(".*");
        if pattern.contains('|') {
            Some(format!("^(?:{pattern})"))
        } else {
            Some(format!("^{pattern}"))
        }
    }
}

/// The parser draws the pattern over several lines and gives its reason on the last.
fn reason(text: &str) -> String {
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}
