//! tonic's clients and servers of etcd's API, for tests and measurements. The product has none of
//! them: it hands messages on as bytes (`etcd-store`, and `stack` in `proxy`).

mod raw_codec;

pub use raw_codec::RawCodec;

use keyloom_etcd_api::{Code, Status};

/// The services of package `etcdserverpb`.
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

/// A status as the rest of the house has it.
#[must_use]
pub fn status_of(status: &tonic::Status) -> Status {
    Status::new(
        Code::from_number(status.code() as i32),
        status.message().to_owned(),
    )
    .with_details(status.details().to_vec().into())
    .with_metadata(status.metadata().as_ref())
}

/// What tonic's clients answer, as the rest of the house has it.
pub trait Answered {
    /// The message alone.
    type Message;

    /// The message, without the metadata that came with it.
    ///
    /// # Errors
    /// The status that the server answered.
    fn answered(self) -> Result<Self::Message, Status>;
}

impl<M> Answered for Result<tonic::Response<M>, tonic::Status> {
    type Message = M;

    fn answered(self) -> Result<M, Status> {
        match self {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(status_of(&status)),
        }
    }
}
