//! The steady path leases and returns, and allocates nothing.

use std::sync::Arc;

use super::{super::*, rig::*};
use crate::{
    device::{Simulated, simulated::Costs},
    memory::Pool,
    repository::Scheduling,
};

/// Sizes of batches, over several size classes of slabs.
const ROWS: [usize; 5] = [1, 8, 3, 5, 2];
