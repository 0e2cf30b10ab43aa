//! The instances of a TorchScript model.
//!
//! Instances at one place share a module where passes leave nothing behind in it; else each has a
//! copy of its own, with its own state.

use std::sync::Arc;

use super::{Plan, limit_threads, load};
use crate::{
    device::Location,
    model::{Error, Instance, Weights},
    tensor::Placed,
    torch::{Module, SharedModule},
};

/// What an instance runs.
#[derive(Debug)]
pub(super) enum Copy {
    /// A module of its own.
    Own(Module),
    /// One that others run too.
    Shared(SharedModule),
}

/// One instance.
#[derive(Debug)]
pub(super) struct Loaded {
    plan: Arc<Plan>,
    copy: Copy,
    location: Location,
}

impl Loaded {
    pub(super) fn new(plan: Arc<Plan>, copy: Copy, location: Location) -> Self {
        Self {
            plan,
            copy,
            location,
        }
    }
}

impl Instance for Loaded {
    fn forward(&mut self, inputs: Vec<Option<Placed>>) -> Result<Vec<Placed>, Error> {
        limit_threads(self.plan.settings.intra_op_threads);
        let Self {
            plan,
            copy,
            location,
        } = self;
        match copy {
            Copy::Own(module) => plan.forward(|values| module.forward(values), inputs, *location),
            Copy::Shared(module) => {
                plan.forward(|values| module.forward(values), inputs, *location)
            }
        }
    }

    fn weights(&self) -> Weights {
        match &self.copy {
            Copy::Own(module) => module.weights(),
            Copy::Shared(module) => module.weights(),
        }
    }

    fn reset(&mut self) -> Result<(), Error> {
        let Copy::Own(module) = &mut self.copy else {
            return Ok(());
        };
        if self.plan.schema.has_reset {
            let done = module.reset();
            return done.map_err(|text| Error::thrown(&text, self.location));
        }
        // Else other weights would run under what was found out about these.
        self.plan.as_checked.check().map_err(Error::Changed)?;
        let form = self.plan.form(self.location);
        *module = load(&self.plan.file, form, self.location)?;
        Ok(())
    }
}
