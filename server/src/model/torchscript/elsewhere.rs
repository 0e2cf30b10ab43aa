//! Which form of a TorchScript model instances on an accelerator run: the furthest that was right on the host, unless
//! it turns out there that it is not.

use std::sync::{Arc, PoisonError};

use super::{
    super::{Answers, Error, Instance, Model, Trial, TrialError},
    TorchScript, choice, instance,
    instance::Loaded,
    load,
};
use crate::{
    device::Location,
    torch::{self, Form},
};

/// The form of instances on an accelerator.
#[derive(Debug)]
pub(super) struct Elsewhere {
    /// The furthest whose answers are right: on the host, until it was tried there.
    pub(super) form: Form,
    /// How this one and further ones did on accelerators.
    pub(super) found: Vec<String>,
}

impl Elsewhere {
    fn note(&mut self, form: Form, what: &str) {
        let found = format!("{form} on an accelerator {what}");
        if !self.found.contains(&found) {
            self.found.push(found);
        }
    }
}

impl TorchScript {
    /// Finds the furthest form whose answers at `location`, an accelerator, are those of the saved one there. Returns
    /// whether that is another than before.
    pub(super) fn settle_elsewhere(&self, location: Location, run: &mut Trial<'_>) -> bool {
        let first = self.plan.form(location);
        if first == Form::Saved {
            return false;
        }
        let expected = match self.answers(self.saved(location), run) {
            Ok(expected) => expected,
            Err(TrialError::Model(text) | TrialError::Other(text)) => {
                self.plan
                    .elsewhere()
                    .note(Form::Saved, &format!("does not run: {text}"));
                return false;
            }
        };
        loop {
            let form = self.plan.form(location);
            let Some(less) = form.less() else {
                return true;
            };
            let fault = match self.answers(self.instance(location), run) {
                Ok(answers) if choice::agree_elsewhere(&expected, &answers) => None,
                Ok(_) => Some(choice::OTHERWISE.to_owned()),
                Err(TrialError::Model(text)) => Some(format!("does not run: {text}")),
                Err(TrialError::Other(text)) => {
                    let unknown = format!("could not be tried: {text}");
                    self.plan.elsewhere().note(form, &unknown);
                    return form != first;
                }
            };
            let file = self.plan.file.display().to_string();
            let Some(fault) = fault else {
                tracing::info!(file, %form, ?location, "the form of the model answers on the accelerator as the saved one does");
                self.plan
                    .elsewhere()
                    .note(form, "answers as the saved one does");
                return form != first;
            };
            tracing::warn!(file, %form, ?location, fault, "a form of the model is not taken");
            let mut elsewhere = self.plan.elsewhere();
            elsewhere.note(form, &fault);
            elsewhere.form = less;
            drop(elsewhere);
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.retain(|(at, _)| *at == Location::Host);
        }
    }

    /// Returns what an instance at `location` answers to a made-up request, each time that it is asked.
    fn answers(
        &self,
        instance: Result<Box<dyn Instance>, Error>,
        run: &mut Trial<'_>,
    ) -> Result<Vec<Answers>, TrialError> {
        let instance = instance.map_err(|error| match error {
            Error::Load { reason, .. } => TrialError::Model(reason),
            other => TrialError::Other(other.to_string()),
        })?;
        let inputs = choice::request(&self.plan, 1);
        let inputs = inputs.map_err(|error| TrialError::Other(error.to_string()))?;
        let inputs = inputs.into_iter().map(|input| input?.into_host());
        run(instance, &inputs.collect::<Vec<_>>())
    }

    /// Returns an instance of the module as it was saved.
    fn saved(&self, location: Location) -> Result<Box<dyn Instance>, Error> {
        torch::specialise_graphs(true);
        let module = load(&self.plan.file, Form::Saved, location)?;
        let copy = instance::Copy::Own(module);
        let plan = Arc::clone(&self.plan);
        Ok(Box::new(Loaded::new(plan, copy, location)))
    }
}

/// Tells the form that runs at `locations`; both, where it differs between the CPU and accelerators.
pub(super) fn forms(on_host: Form, elsewhere: Form, locations: &[Location]) -> String {
    let is_used = |host| locations.iter().any(|at| (*at == Location::Host) == host);
    match (is_used(true), is_used(false)) {
        (true, true) if on_host != elsewhere => {
            format!("{on_host} on the CPU, {elsewhere} on accelerators")
        }
        (false, true) => elsewhere.to_string(),
        _ => on_host.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_told_of_the_places_that_are_used() {
        let [cpu, gpu] = [Location::Host, Location::Accelerator(1)];
        let told = |locations: &[Location]| forms(Form::Saved, Form::Optimized, locations);
        assert_eq!(told(&[cpu, cpu]), "saved");
        assert_eq!(told(&[gpu]), "optimized");
        assert_eq!(
            told(&[gpu, cpu]),
            "saved on the CPU, optimized on accelerators"
        );
        assert_eq!(forms(Form::Frozen, Form::Frozen, &[cpu, gpu]), "frozen");
    }
}
