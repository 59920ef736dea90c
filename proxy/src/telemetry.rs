//! What makes a trace of a call: spans, whoever listens to them.

/// The target of the spans that traces are made of; they have the level `debug`.
pub(crate) const TARGET: &str = "keyloom_proxy::trace";
