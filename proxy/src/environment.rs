//! What the program takes from outside: a test gives it another network and other chance.

use std::sync::Arc;

use keyloom_environment::{Dial, Random};

use crate::{listen::Listen, order::RenewOn, watched_files::FileChanges, workers::Workers};

/// What the program takes from outside.
#[derive(Clone, Debug)]
pub struct Environment {
    pub dial: Arc<dyn Dial>,
    pub listen: Arc<dyn Listen>,
    pub random: Arc<dyn Random>,
    pub changes: FileChanges,
    pub renew_on: RenewOn,
    /// Which threads answer calls.
    pub workers: Workers,
}
