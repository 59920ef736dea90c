//! The ledger's tests: edge cases by name, and everything against a model that keeps a row per `u`.

mod chunk;
mod damage;
mod edge;
mod model;
mod random;
mod recovery;
