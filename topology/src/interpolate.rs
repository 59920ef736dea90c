//! `${NAME}`, `${file:PATH}` and `$$` in endpoints and credentials.

use std::path::{Path, PathBuf};

use crate::source::Source;

/// A text after replacement, in chunks, so that a reader can treat a replaced value as opaque: a
/// password may hold any character that means something in a URL.
#[derive(Debug, Default)]
pub(crate) struct Expanded {
    pub(crate) chunks: Vec<Chunk>,
    /// The files that were asked for, to be watched.
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug)]
pub(crate) enum Chunk {
    /// As it stands in the file.
    Written(String),
    /// From the environment or a file.
    Replaced(String),
}

/// Replaces what is to be replaced; gives every fault of the text.
pub(crate) fn expand(text: &str, source: &dyn Source) -> Result<Expanded, Vec<String>> {
    let mut out = Expanded::default();
    let mut faults = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, tail) = rest.split_at(at);
        out.written(before);
        rest = match dollar(tail, source, &mut out) {
            Ok(next) => next,
            Err((fault, next)) => {
                faults.push(fault);
                next
            }
        };
    }
    out.written(rest);
    if faults.is_empty() {
        Ok(out)
    } else {
        Err(faults)
    }
}

/// Reads what begins with the dollar sign at the start of `tail`, and gives what is behind it.
fn dollar<'t>(
    tail: &'t str,
    source: &dyn Source,
    out: &mut Expanded,
) -> Result<&'t str, (String, &'t str)> {
    if let Some(next) = tail.strip_prefix("$$") {
        out.written("$");
        return Ok(next);
    }
    let Some(inner) = tail.strip_prefix("${") else {
        let next = tail.get(1..).unwrap_or_default();
        return Err(("a lone `$`; write `$$` for a dollar sign".into(), next));
    };
    let Some((name, next)) = inner.split_once('}') else {
        return Err(("`${` without a `}`".into(), ""));
    };
    match lookup(name, source, &mut out.files) {
        Ok(value) => out.chunks.push(Chunk::Replaced(value)),
        Err(fault) => return Err((fault, next)),
    }
    Ok(next)
}

fn lookup(name: &str, source: &dyn Source, files: &mut Vec<PathBuf>) -> Result<String, String> {
    if let Some(path) = name.strip_prefix("file:") {
        let path = Path::new(path);
        files.push(path.to_owned());
        let text = source
            .file(path)
            .map_err(|error| format!("`${{{name}}}` cannot be read: {error}"))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        return Ok(text.strip_suffix('\r').unwrap_or(text).to_owned());
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(format!("`${{{name}}}` is not the name of a variable"));
    }
    source
        .variable(name)
        .ok_or_else(|| format!("`${{{name}}}` is not defined"))
}

impl Expanded {
    /// The whole text, where nothing in it has a meaning of its own.
    pub(crate) fn into_text(self) -> String {
        let chunks = self.chunks.into_iter().map(|chunk| match chunk {
            Chunk::Written(text) | Chunk::Replaced(text) => text,
        });
        chunks.collect()
    }

    fn written(&mut self, text: &str) {
        match self.chunks.last_mut() {
            Some(Chunk::Written(last)) => last.push_str(text),
            _ if text.is_empty() => {}
            _ => self.chunks.push(Chunk::Written(text.to_owned())),
        }
    }
}
