//! What of a request leaves memory for disk, and comes back.
//!
//! Below the request: a queued one is [`Stowed`], an answered one leaves its outputs on a [`Shelf`].
//! Who decides what goes and when lies above ([`overflow`](crate::overflow)).

mod cargo;
mod limits;
mod shelf;
mod signal;
mod stay;
mod stowed;

pub(crate) use cargo::{Accepted, onboard, park};
pub use limits::Limits;
pub(crate) use shelf::Leaving;
pub use shelf::{Claim, Shelf};
pub use signal::Signal;
pub use stay::{Parking, Stays};
pub use stowed::{Cargo, Input, Stowed, Unwritten};
