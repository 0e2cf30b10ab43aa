//! The thread, with models that note what happens to them.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::*;

const LONG: Duration = Duration::from_secs(20);

/// Tells of each call, and comes when it is let.
#[derive(Debug)]
struct Model {
    name: char,
    told: SyncSender<String>,
    fails: bool,
}

impl Model {
    fn tell(&self, what: &str) {
        self.told.send(format!("{} {what}", self.name)).unwrap();
    }
}

impl Resident for Model {
    fn come(&self) -> Result<(), String> {
        self.tell("comes");
        match self.fails {
            true => Err("planted".to_owned()),
            false => Ok(()),
        }
    }

    fn leave(&self) {
        self.tell("leaves");
    }

    fn refuse(&self, reason: &str) {
        self.tell(reason);
    }

    fn is_lost(&self) -> bool {
        self.name == 'z'
    }

    fn looks_well(&self) -> bool {
        // Of one that does not, nothing more is heard.
        self.name != 'y'
    }
}

struct Rig {
    residency: Residency,
    models: Vec<(Arc<Model>, Member)>,
    told: Receiver<String>,
}

/// Makes models of one byte each, of which `budget` fit; those in `failing` do not come back.
fn rig(names: &str, failing: &str, budget: u64) -> Rig {
    rig_of(names, failing, Residency::new(Some(budget), LONG))
}

fn rig_of(names: &str, failing: &str, residency: Residency) -> Rig {
    let (tell, told) = sync_channel(64);
    let admit = |name| {
        let model = Arc::new(Model {
            name,
            told: tell.clone(),
            fails: failing.contains(name),
        });
        let weak: Weak<dyn Resident> = Arc::<Model>::downgrade(&model);
        let member = residency.admit(weak, 1).unwrap();
        (model, member)
    };
    let models = names.chars().map(admit).collect();
    residency.start().unwrap();
    Rig {
        residency,
        models,
        told,
    }
}

impl Rig {
    fn lease(&self, index: usize) -> Lease {
        self.models[index].1.lease()
    }

    fn hears(&self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(self.told.recv_timeout(LONG).as_deref(), Ok(*expected));
        }
    }
}

#[test]
fn a_lease_brings_a_model_in_once_another_is_let_go() {
    let rig = rig("abc", "", 2);
    rig.hears(&["c leaves"]);
    let (first, second) = (rig.lease(0), rig.lease(1));
    let third = rig.lease(2);
    drop(second);
    rig.hears(&["b leaves", "c comes"]);
    drop((first, third));
    rig.residency.close();
    assert_eq!(rig.told.try_recv().ok(), None);
    let usage = rig.residency.usage();
    assert_eq!((usage.bytes, usage.peak), (2, 2));
}

#[test]
fn what_does_not_come_is_refused_and_holds_nobody_up() {
    let rig = rig("abc", "b", 1);
    rig.hears(&["b leaves", "c leaves"]);
    let failing = rig.lease(1);
    rig.hears(&["a leaves", "b comes", "b planted"]);
    let other = rig.lease(2);
    // A request that was not queued yet when the others were refused has it tried again.
    let next = |rig: &Rig| rig.told.recv_timeout(LONG).unwrap();
    while next(&rig) != "c comes" {}
    drop((failing, other));
    rig.residency.close();
}

#[test]
fn what_did_not_come_is_tried_again_by_itself_unless_it_is_lost() {
    let rig = rig("abyz", "byz", 1);
    rig.hears(&["b leaves", "y leaves", "z leaves"]);
    let next = || rig.told.recv_timeout(LONG).unwrap();
    // While there are requests they are tried for those.
    let lease = rig.lease(3);
    rig.hears(&["a leaves", "z comes", "z planted"]);
    drop(lease);
    let lease = rig.lease(2);
    while next() != "y comes" {}
    drop(lease);
    let lease = rig.lease(1);
    while next() != "b comes" {}
    drop(lease);
    let before = Instant::now();
    loop {
        let told = next();
        assert!(!told.starts_with(['y', 'z']), "{told}");
        if told == "b comes" && before.elapsed() > Duration::from_millis(900) {
            break;
        }
    }
    rig.residency.close();
}

#[test]
fn nobody_leaves_for_requests_to_a_model_that_does_not_look_well() {
    let rig = rig("ay", "y", 1);
    rig.hears(&["y leaves"]);
    let lease = rig.lease(1);
    rig.hears(&["a leaves", "y comes", "y planted"]);
    drop(lease);
    let other = rig.lease(0);
    while rig.told.recv_timeout(LONG).unwrap() != "a comes" {}
    drop(other);
    // Once its pause is over, its requests are answered as they were before.
    let lease = rig.lease(1);
    rig.hears(&["y planted"]);
    drop(lease);
    assert!(rig.told.try_iter().all(|told| told == "y planted"));
    rig.residency.close();
}

#[test]
fn closing_waits_for_those_that_wait() {
    let turn = Duration::from_millis(200);
    let rig = rig_of("ab", "", Residency::new(Some(1), turn));
    rig.hears(&["b leaves"]);
    let leases = (rig.lease(0), rig.lease(1));
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| rig.residency.close());
        // Only after a turn, when it has long been closed.
        rig.hears(&["a leaves", "b comes"]);
        drop(leases);
        closing.join().unwrap();
    });
}

#[test]
fn the_wait_for_weights_is_the_part_of_the_queue_s_time_before_they_came() {
    let rig = rig("ab", "", 1);
    rig.hears(&["b leaves"]);
    let before = Instant::now();
    let lease = rig.lease(1);
    rig.hears(&["a leaves", "b comes"]);
    while rig.residency.shared.lock().roster.since(1).is_none() {
        std::thread::yield_now();
    }
    let after = Instant::now();
    let waited = lease.waited(before, after);
    assert!(waited > Duration::ZERO && waited <= after - before);
    assert_eq!(lease.waited(after, after), Duration::ZERO);
    // A batch may be formed a moment before it is noted.
    assert_eq!(lease.waited(before, before), Duration::ZERO);
    drop(lease);
    rig.residency.close();
}
