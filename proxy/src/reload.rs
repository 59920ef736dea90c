//! Changes of the topology while Keyloom serves.

mod floors;
mod gate;

pub(crate) use floors::Floors;
pub(crate) use gate::{Gate, Superseded, Traffic, UnderWay};
