//! What a route claims, checked and in one form: all names resolved to paths below the registry
//! prefix.

use std::{fmt, sync::Arc};

use crate::{problem::Position, regexp::Regexp, spec::StoreIndex};

/// One route, in the order of the file.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) store: StoreIndex,
    pub(crate) matcher: Matcher,
    pub(crate) at: Position,
}

#[derive(Clone, Debug)]
pub(crate) enum Matcher {
    /// A path of whole segments below the registry prefix: the key itself and all below it.
    Path(String),
    /// The same for `GROUP` or `GROUP/PLURAL`.
    CustomResource(String),
    /// Every key that begins with these bytes.
    KeyPrefix(String),
    Regexp(Arc<Regexp>),
    Namespace(Namespaces),
}

/// Every namespaced object of some namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Namespaces {
    pub(crate) names: Vec<String>,
    /// What stands before the `*`.
    pub(crate) wildcards: Vec<String>,
    /// The directories of the kinds; `None` means all resources.
    pub(crate) directories: Option<Vec<String>>,
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "prefix {path}"),
            Self::CustomResource(path) => write!(f, "customresource {path}"),
            Self::KeyPrefix(key) => write!(f, "prefix.key {key:?}"),
            Self::Regexp(regexp) => write!(f, "regexp {}", regexp.pattern()),
            Self::Namespace(namespaces) => namespaces.fmt(f),
        }
    }
}

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        let wildcards = self.wildcards.iter().map(|prefix| format!("{prefix}*"));
        let all: Vec<_> = self.names.iter().cloned().chain(wildcards).collect();
        let (shown, rest) = all.split_at(all.len().min(SHOWN));
        write!(f, "namespace {}", shown.join(", "))?;
        if !rest.is_empty() {
            write!(f, " and {} more", rest.len())?;
        }
        match &self.directories {
            Some(directories) => write!(f, " (only {})", directories.join(", ")),
            None => Ok(()),
        }
    }
}
