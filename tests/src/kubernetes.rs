//! A Kubernetes without nodes: a kube-apiserver, a controller manager, and their API over HTTP.
//!
//! | module | what for |
//! |---|---|
//! | [`control_plane`] | the programs, and their files |
//! | [`api`] | calls to the API |
//! | [`stores`] | Keyloom over stores of every kind, at an address that outlives it |
//! | [`doorway`] | an address whose owner changes |
//! | [`measure`] | how fast it is |
//! | [`work`] | what is done to the cluster, and what must hold of it |
//! | [`life`] | all of that, in order |

pub mod api;
pub mod control_plane;
pub mod doorway;
pub mod measure;
pub mod stores;
pub mod work;
pub mod life;

pub use api::Api;
pub use control_plane::{ControlPlane, Settings};
pub use doorway::Doorway;
pub use life::live;
pub use stores::Layout;
pub use work::Size;
