//! Where `${NAME}` and `${file:PATH}` get their texts: the one seam to the world outside.

use std::{io, path::Path};

/// The environment and the files that a topology may name.
pub trait Source {
    /// The environment variable `name`, if it is set.
    fn variable(&self, name: &str) -> Option<String>;

    /// The text of a file.
    ///
    /// # Errors
    /// Where the file cannot be read.
    fn file(&self, path: &Path) -> io::Result<String>;
}

/// Knows no variable and no file.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSource;

impl Source for NoSource {
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn file(&self, _path: &Path) -> io::Result<String> {
        Err(io::Error::from(io::ErrorKind::NotFound))
    }
}
