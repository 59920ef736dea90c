//! The etcd v3 API as it goes over the wire: messages, calls, key ranges, request checks, errors,
//! and the rewriting of revisions in encoded messages.
//!
//! Everything here is pure: no socket, no clock. The messages are generated from etcd's own,
//! unmodified `.proto` files (`cargo xtask codegen`).

mod check;
mod error;
pub mod framing;
mod key_range;
mod metadata;
mod rpc;
pub mod status;
pub mod wire;

pub use check::{check_compaction, check_delete_range, check_put, check_range, check_txn};
pub use error::EtcdError;
pub use key_range::KeyRange;
pub use metadata::Metadata;
pub use rpc::{Rpc, Shape, unknown_call};
pub use status::{Code, Status};

/// The encoded descriptors of every file, for the reflection service.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptor.bin");

/// Package `etcdserverpb`: requests and responses of every service.
#[allow(
    warnings,
    clippy::all,
    clippy::unwrap_used,
    rustdoc::all,
    reason = "generated code is not ours to polish"
)]
pub mod etcdserverpb {
    include!("generated/etcdserverpb.rs");
}

/// Package `mvccpb`: keys and events.
#[allow(
    warnings,
    clippy::all,
    rustdoc::all,
    reason = "generated code is not ours to polish"
)]
pub mod mvccpb {
    include!("generated/mvccpb.rs");
}

/// Package `authpb`: users, roles and permissions.
#[allow(
    warnings,
    clippy::all,
    rustdoc::all,
    reason = "generated code is not ours to polish"
)]
pub mod authpb {
    include!("generated/authpb.rs");
}
