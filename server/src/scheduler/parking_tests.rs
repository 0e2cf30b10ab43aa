use forebay_proto::{DataType, Shape, Tensor};

use super::*;
use crate::{
    parking::{Stays, Unwritten},
    repository::{DynamicBatching, Scheduling},
    scheduler::{Decision, Pending, waiters::Wake},
};

fn queue() -> Arc<Scheduler> {
    queue_of(&Scheduling::Each, u64::MAX)
}

/// Makes a queue of which a batch has `max_bytes` brought back.
fn queue_of(scheduling: &Scheduling, max_bytes: u64) -> Arc<Scheduler> {
    let queue = Arc::new(Scheduler::new(scheduling, 2, 1, 100));
    let config = forebay_spill::Config {
        write_queue_bytes: 100,
        ..forebay_spill::Config::default()
    };
    queue.allow_parking(Limits::new(1, config.bounds()), max_bytes, Arc::default());
    queue
}

fn tensor(bytes: usize) -> Option<Tensor> {
    let shape = Shape::new(vec![i64::try_from(bytes).unwrap()]).unwrap();
    Some(Tensor::new("x", DataType::Uint8, shape, vec![7; bytes]).unwrap())
}

/// Queues a request with tensors of these lengths.
fn submit(queue: &Arc<Scheduler>, lens: &[usize], deadline: Option<Instant>) -> Pending {
    let (mut job, answer) = Job::of(lens.iter().map(|len| tensor(*len)).collect());
    job.deadline = deadline;
    queue.submit(job, answer).unwrap()
}

/// Takes the tensors of the request that runs last out of memory, and returns them.
fn park_last(queue: &Scheduler) -> (Ticket, Cargo) {
    let (ticket, _) = queue.last_here(0).unwrap();
    (ticket, park(queue, ticket))
}

fn park(queue: &Scheduler, ticket: Ticket) -> Cargo {
    let cargo = queue.lift(ticket).unwrap();
    queue.stow(
        ticket,
        Stowed {
            inputs: Vec::new(),
            permit: None,
            unwritten: Unwritten::default(),
            since: Instant::now(),
        },
    );
    cargo
}

#[test]
fn what_nobody_waits_for_is_answered_where_it_would_be_fetched() {
    let queue = queue();
    let now = Instant::now();
    let late = now + Duration::from_secs(60);
    let mut of_dead = submit(&queue, &[10], Some(late));
    let of_live = submit(&queue, &[10], Some(late + Duration::from_secs(60)));
    let (live, _) = park_last(&queue);
    let (dead, _) = park_last(&queue);
    assert!(queue.fetch(dead, late).is_none());
    assert!(matches!(
        of_dead.answer.try_recv(),
        Ok(Err(Error::DeadlineExceeded))
    ));
    assert_eq!((queue.len(), queue.first_away(1)), (1, vec![live]));
    assert!(queue.fetch(live, late).is_some());
    drop(of_live);
}

#[test]
fn all_times_on_disk_count() {
    let queue = queue();
    let pending = submit(&queue, &[10], None);
    let began = Instant::now();
    for nth in 1..=3 {
        let (ticket, cargo) = park_last(&queue);
        queue.fetch(ticket, began).unwrap();
        let fetched = began + Duration::from_millis(nth);
        let parking = Parking {
            from: began,
            fetched,
            until: fetched + Duration::from_millis(10),
            earlier: Stays::default(),
        };
        queue.put(ticket, cargo, Some(parking));
    }
    let jobs = queue.next(0).unwrap();
    let parked = jobs[0].timings.parked.unwrap();
    let told = [parked.parked(), parked.onboard()].map(|time| time.as_millis());
    assert_eq!(told, [1 + 2 + 3, 30]);
    drop(pending);
}

fn dynamic() -> Scheduling {
    Scheduling::Dynamic(DynamicBatching {
        preferred_batch_sizes: Vec::new(),
        max_queue_delay: Duration::ZERO,
    })
}

/// Queues a request of one row, which shares batches with rows of the same length.
fn submit_row(queue: &Arc<Scheduler>, bytes: usize) -> Pending {
    let shape = Shape::new(vec![1, i64::try_from(bytes).unwrap()]).unwrap();
    let tensor = Tensor::new("x", DataType::Uint8, shape, vec![7; bytes]).unwrap();
    let (job, answer) = Job::of(vec![Some(tensor)]);
    queue.submit(job, answer).unwrap()
}

#[test]
fn no_more_is_asked_for_at_once_than_may_come_back() {
    for (max_bytes, wanted) in [(20, vec![1, 2]), (19, vec![1])] {
        let queue = queue_of(&dynamic(), max_bytes);
        let pending = [30, 10, 10].map(|bytes| submit_row(&queue, bytes));
        let _cargo = [1, 2].map(|ticket| park(&queue, ticket));
        assert_eq!(queue.next(0).unwrap().len(), 1);
        // The other two make a full batch.
        let decision = queue.lock().take(Instant::now());
        assert!(matches!(decision, Decision::Absent { needed, .. } if needed == wanted));
        assert_eq!(queue.first_away(0), wanted);
        drop(pending);
    }
}

#[test]
fn an_older_batch_that_is_overtaken_is_asked_for() {
    let queue = queue_of(&dynamic(), u64::MAX);
    let pending = [10, 10, 20, 20].map(|bytes| submit_row(&queue, bytes));
    let cargo = park(&queue, 1);
    assert!(queue.first_away(1).is_empty(), "it is beyond the horizon");
    let rows =
        |jobs: Option<Vec<Box<Job>>>| jobs.unwrap()[0].inputs[0].as_ref().unwrap().data().len();
    assert_eq!(rows(queue.next(0)), 20);
    assert_eq!(queue.first_away(1), [1]);
    queue.put(1, cargo, None);
    assert_eq!(rows(queue.next(0)), 10);
    drop(pending);
}

#[test]
fn what_comes_back_wakes_an_instance_only_where_it_was_missed() {
    let queue = queue();
    let pending = [(); 2].map(|()| submit(&queue, &[10], None));
    let first = park(&queue, 0);
    let last = queue.lift(1).unwrap();
    let decision = queue.lock().take(Instant::now());
    assert!(matches!(decision, Decision::Absent { .. }));
    let woken = || queue.lock().waiters.wake_one() == Wake::Nobody;
    queue.lock().waiters.sleep();
    queue.put(1, last, None);
    assert!(!woken(), "the first is not here yet");
    queue.lock().waiters.get_up();
    queue.lock().waiters.sleep();
    queue.put(0, first, None);
    assert!(woken());
    drop(pending);
}

#[test]
fn tensors_that_are_too_much_together_stay_and_hold_nobody_up() {
    let queue = queue();
    let pending = [&[60, 40][..], &[60, 41], &[101]].map(|lens| submit(&queue, lens, None));
    let mut parked = Vec::new();
    while queue.last_here(0).is_some() {
        parked.push(park_last(&queue).0);
    }
    // The second one is too much; a single tensor never is.
    assert_eq!(parked, [2, 0]);
    drop(pending);
}
