//! What the program takes from outside: a test gives it another network and other chance.

use std::sync::Arc;

use keyloom_environment::{Dial, Random};

use crate::{listen::Listen, order::RenewOn};

/// What the program takes from outside.
#[derive(Clone, Debug)]
pub struct Environment {
    pub dial: Arc<dyn Dial>,
    pub listen: Arc<dyn Listen>,
    pub random: Arc<dyn Random>,
    pub changes: FileChanges,
    pub renew_on: RenewOn,
}

/// How it is learnt that a file changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileChanges {
    /// The system tells, and a SIGHUP is heard.
    #[default]
    Told,
    /// The files are looked at now and then, and that is all: a simulation has neither threads nor
    /// signals.
    Looked,
}
