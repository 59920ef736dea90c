//! The dialects of SQL that the core speaks, each behind [`Session`](crate::session::Session).

pub(crate) mod sqlite;
