//! What the spans of calls have in common.

/// The target of the spans of calls, as `--log keyloom_proxy::trace=debug` names it.
pub(crate) const TARGET: &str = "keyloom_proxy::trace";
