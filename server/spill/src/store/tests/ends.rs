//! Threads that end otherwise than by the last handle.

use super::*;
use crate::{error::Error, store::Class};

on_each_engine!(after_a_thread_has_panicked_every_call_says_closed);

fn after_a_thread_has_panicked_every_call_says_closed(choice: Choice) {
    let rig = Rig::with(choice, 2, usize::MAX, |_| ());
    let written = rig.store.blocking().offload_and_wait(random(1, 5000));
    let written = written.unwrap();
    for control in &rig.controls {
        control.set(Box::new(|_| panic!("a test says so")));
    }
    let waiting = rig.store.offload(random(2, 5000)).unwrap();
    let error = block_on(waiting.settled()).unwrap_err();
    assert!(matches!(error, Error::Closed), "{error}");
    let error = block_on(waiting.settled()).unwrap_err();
    assert!(matches!(error, Error::Closed), "{error}");
    for parked in [&written, &waiting] {
        let error = rig.store.blocking().read(parked).unwrap_err();
        assert!(matches!(error, Error::Closed), "{error}");
    }
    for parked in [written, waiting] {
        let lost = block_on(rig.store.onboard(parked, Class::Demand)).unwrap_err();
        assert!(matches!(lost.error, Error::Closed) && lost.parked.is_none());
    }
    rig.store.blocking().synchronize();
    let refused = rig.store.offload(vec![1]).unwrap_err();
    assert!(matches!(refused.error, Error::Closed));
}
