//! The names of everything that is asked of a database, for logs and metrics.

use std::fmt;

macro_rules! statements {
    ($($variant:ident => $name:literal,)*) => {
        /// One kind of statement. A closed list, so that it can be a label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Statement { $($variant,)* }

        impl Statement {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

statements! {
    Open => "open",
    Migrate => "migrate",
    Begin => "begin",
    Commit => "commit",
    Marks => "marks",
    SetMarks => "set_marks",
    Identity => "identity",
    Entry => "entry",
    Value => "value",
    LastChange => "last_change",
    ScanCurrent => "scan_current",
    ScanHistory => "scan_history",
    CountCurrent => "count_current",
    Sizes => "sizes",
    Counts => "counts",
    SetCounts => "set_counts",
    Changes => "changes",
    PlaceAt => "seq_at",
    Append => "append",
    SetCurrent => "set_current",
    RemoveCurrent => "remove_current",
    SweepSuperseded => "sweep_superseded",
    SweepDeletions => "sweep_deletions",
    Leases => "leases",
    SetLease => "set_lease",
    RemoveLease => "remove_lease",
    LeasedKeys => "leased_keys",
    Space => "space",
    GiveBackSpace => "give_back_space",
    Checkpoint => "checkpoint",
    SyncFile => "sync_file",
    Synchronous => "synchronous",
    Allow => "allow",
    Import => "import",
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
