//! Whom a store knows Keyloom as.

use std::fmt;

use super::url;
use crate::secret::Secret;

/// A user and, where one was given, a password.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Login {
    /// The user's name; may be empty.
    pub user: String,
    /// `None` where the endpoint has no `:` behind the user.
    pub password: Option<Secret>,
}

impl Login {
    /// `user:password`, both percent-encoded.
    pub(super) fn from_url(text: &str) -> Self {
        Self::from_parts(text, url::decode)
    }

    /// `user:password`, both as they are.
    pub(super) fn from_plain(text: &str) -> Self {
        Self::from_parts(text, str::to_owned)
    }

    fn from_parts(text: &str, read: impl Fn(&str) -> String) -> Self {
        let (user, password) = match text.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (text, None),
        };
        Self {
            user: read(user),
            password: password.map(|password| Secret::new(read(password))),
        }
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.password {
            Some(_) => write!(f, "{}:***@", url::encode(&self.user)),
            None => write!(f, "{}@", url::encode(&self.user)),
        }
    }
}
