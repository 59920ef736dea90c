//! What is wrong with a topology file: every problem at once, each with its line and column.

use std::fmt;

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is served, though it may not do what its author expects.
    Warning,
}

/// Where something stands in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
}

/// One finding about a topology file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `None` where the file as a whole is meant.
    pub at: Option<Position>,
    /// Whether the file can still be served.
    pub severity: Severity,
    /// One sentence, without secrets.
    pub text: String,
}

/// The file cannot be served; holds at least one error, and every warning found on the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.in_file("topology").join("\n"))]
pub struct Refused {
    /// In the order of the file.
    pub problems: Vec<Problem>,
}

/// Collects problems while the reading goes on.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    found: Vec<Problem>,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

// === impl Problem ===

impl Problem {
    /// The form that editors can jump to: `file:line:column: error: text`.
    #[must_use]
    pub fn in_file(&self, file: &str) -> String {
        match self.at {
            Some(at) => format!("{file}:{at}: {}: {}", self.severity, self.text),
            None => format!("{file}: {}: {}", self.severity, self.text),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "{at}: {}: {}", self.severity, self.text),
            None => write!(f, "{}: {}", self.severity, self.text),
        }
    }
}

// === impl Refused ===

impl Refused {
    /// One line per problem, as [`Problem::in_file`].
    #[must_use]
    pub fn in_file(&self, file: &str) -> Vec<String> {
        self.problems.iter().map(|p| p.in_file(file)).collect()
    }
}

// === impl Problems ===

impl Problems {
    pub(crate) fn error(&mut self, at: impl Into<Option<Position>>, text: impl Into<String>) {
        self.add(at.into(), Severity::Error, text.into());
    }

    pub(crate) fn warning(&mut self, at: impl Into<Option<Position>>, text: impl Into<String>) {
        self.add(at.into(), Severity::Warning, text.into());
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(|p| p.severity == Severity::Error)
    }

    /// Everything found, in the order of the file; what has no line comes last.
    pub(crate) fn into_sorted(mut self) -> Vec<Problem> {
        self.found
            .sort_by_key(|p| (p.at.is_none(), p.at, p.severity));
        self.found
    }

    fn add(&mut self, at: Option<Position>, severity: Severity, text: String) {
        self.found.push(Problem { at, severity, text });
    }
}

/// The known name that differs in spelling least, if it differs little.
pub(crate) fn nearest<'n>(wrong: &str, known: &[&'n str]) -> Option<&'n str> {
    const MOST: usize = 2;
    let wrong = wrong.to_lowercase();
    let scored = known
        .iter()
        .map(|name| (strsim::levenshtein(&wrong, &name.to_lowercase()), *name));
    let (distance, name) = scored.min()?;
    (distance <= MOST && distance < name.len()).then_some(name)
}
