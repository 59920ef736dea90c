//! Which key lives on which store.
//!
//! A topology file is read in stages: text -> tree with positions (`yaml`) -> typed input (`input`,
//! through serde by `reader`) -> checked meaning (`meaning`) -> an immutable [`Topology`] with
//! indexes for its two questions: [`Topology::route`], the store of a key, and [`Topology::cover`],
//! the stores that can hold a key of a range. The input types are also the file's JSON schema and
//! what a topology is written with. Everything here is pure: files and the environment are reached
//! through [`Source`].

mod affected;
mod duration;
mod endpoint;
mod index;
mod input;
mod interpolate;
mod kubernetes;
mod matcher;
mod meaning;
mod problem;
mod reader;
mod regexp;
mod schema;
mod secret;
mod source;
mod spanned;
mod spec;
mod text;
mod topology;
mod yaml;

pub use affected::Affected;
pub use duration::{DurationError, parse_duration};
pub use endpoint::{
    Address, Endpoint, EndpointKind, EtcdEndpoint, EtcdScheme, Login, MysqlEndpoint,
    PostgresEndpoint, SqliteEndpoint,
};
pub use kubernetes::object_key;
pub use problem::{Position, Problem, Refused, Severity};
pub use schema::schema;
pub use secret::Secret;
pub use source::{NoSource, Source};
pub use spec::{DEFAULT_STORE, DeleteRangeOverStores, Limits, StoreIndex, StoreSpec, TlsSpec};
pub use topology::{
    Cuts, MAX_INTERVALS, Move, Moved, Part, RouteExplanation, RouteReason, Topology,
};

/// What the reader of a topology file is told besides the text.
#[derive(Clone)]
pub struct ParseOptions<'s> {
    /// The default store where the file names none: the program's `--endpoint`.
    pub default_endpoint: Option<String>,
    /// Where `${NAME}` and `${file:PATH}` get their texts.
    pub source: &'s dyn Source,
}

/// A file that can be served.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its meaning.
    pub topology: Topology,
    /// In the order of the file.
    pub warnings: Vec<Problem>,
}

/// Reads a topology file. An empty text is a file without backends.
///
/// # Errors
/// Every problem of the file at once, warnings included, where at least one is an error.
pub fn parse(text: &str, options: &ParseOptions<'_>) -> Result<Accepted, Refused> {
    let mut problems = problem::Problems::default();
    let topology = read(text, options, &mut problems);
    let refused = problems.has_errors();
    let problems = problems.into_sorted();
    match topology {
        Some(topology) if !refused => Ok(Accepted {
            topology,
            warnings: problems,
        }),
        _ => Err(Refused { problems }),
    }
}

/// Checks a file and says everything about it, one line each: `file:line:column: error: text`.
/// No line means that nothing is wrong.
#[must_use]
pub fn check(file: &str, text: &str, options: &ParseOptions<'_>) -> Vec<String> {
    let problems = match parse(text, options) {
        Ok(accepted) => accepted.warnings,
        Err(refused) => refused.problems,
    };
    problems
        .iter()
        .map(|problem| problem.in_file(file))
        .collect()
}

/// What would move if `new` replaced `old`; see [`Topology::diff`].
#[must_use]
pub fn diff(old: &Topology, new: &Topology) -> Vec<Move> {
    old.diff(new)
}

fn read(
    text: &str,
    options: &ParseOptions<'_>,
    problems: &mut problem::Problems,
) -> Option<Topology> {
    let tree = yaml::read(text, problems);
    if problems.has_errors() && tree.is_none() {
        return None;
    }
    let file = match tree {
        Some(tree) => reader::read(&tree, problems)?,
        None => input::FileInput::default(),
    };
    let meaning = meaning::of(&file, options, problems);
    if problems.has_errors() {
        return None;
    }
    match Topology::compile(meaning) {
        Ok(topology) => {
            for (at, taker) in topology.shadowed() {
                let by = taker.map_or_else(String::new, |at| format!(": see line {}", at.line));
                let text = format!(
                    "no key can match this route: earlier routes claim all of its keys{by}"
                );
                problems.warning(at, text);
            }
            Some(topology)
        }
        Err(error) => {
            problems.error(None, format!("all expressions together: {error}"));
            None
        }
    }
}

impl std::fmt::Debug for ParseOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The endpoint may hold a password.
        f.debug_struct("ParseOptions").finish_non_exhaustive()
    }
}

impl Default for ParseOptions<'_> {
    fn default() -> Self {
        Self {
            default_endpoint: None,
            source: &NoSource,
        }
    }
}
