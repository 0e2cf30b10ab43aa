//! The end of a device: an error that no later operation is free of, and who must hear of it.
//!
//! Invariant: the first final error counts, and everyone who listens, before or after, is told of it
//! once.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What is called with the reason.
type Listener = Box<dyn FnOnce(&str) + Send>;

/// Whether a device has failed for good.
#[derive(Clone, Default)]
pub struct Outage {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    reason: Option<String>,
    listeners: Vec<Listener>,
}

impl Outage {
    /// Declares the device failed. Whoever listens is told, on the calling thread; later reasons
    /// are dropped.
    pub fn declare(&self, reason: &str) {
        let listeners = {
            let mut state = self.lock();
            if state.reason.is_some() {
                return;
            }
            state.reason = Some(reason.to_owned());
            std::mem::take(&mut state.listeners)
        };
        tracing::error!(%reason, "a device has failed for good; its models are not ready any more");
        // Called without the lock: what they do is theirs.
        for listener in listeners {
            listener(reason);
        }
    }

    /// Calls `listener` with the reason when the device fails, or at once where it has.
    pub fn listen(&self, listener: impl FnOnce(&str) + Send + 'static) {
        let mut state = self.lock();
        match state.reason.clone() {
            Some(reason) => {
                drop(state);
                listener(&reason);
            }
            None => state.listeners.push(Box::new(listener)),
        }
    }

    /// Returns why the device has failed, if it has.
    pub fn reason(&self) -> Option<String> {
        self.lock().reason.clone()
    }

    /// A panic elsewhere leaves the state whole: no one else's code runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason();
        f.debug_struct("Outage").field("reason", &reason).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_before_or_after_is_told_the_first_reason_once() {
        let told = Arc::<Mutex<Vec<String>>>::default();
        let listener = || {
            let told = Arc::clone(&told);
            move |reason: &str| told.lock().unwrap().push(reason.to_owned())
        };
        let outage = Outage::default();
        outage.listen(listener());
        assert_eq!(outage.reason(), None);
        outage.declare("first");
        outage.declare("second");
        outage.listen(listener());
        assert_eq!(*told.lock().unwrap(), ["first", "first"]);
        assert_eq!(outage.reason().as_deref(), Some("first"));
    }
}
