//! How often the host copies a tensor's bytes on their way: told from where they lie. The model
//! echoes, so a reply's bytes are the memory that the pass was given.

use super::*;
use crate::repository::DynamicBatching;

fn cpu() -> (Pool, Arc<Cpu>) {
    let pool = Pool::new(1 << 20);
    (pool.clone(), Arc::new(Cpu::new(pool)))
}

/// Submits a job and returns where its input lies.
fn submit(rig: &Rig, rows: usize, byte: u8) -> (*const u8, crate::scheduler::Pending) {
    let (reply, answer) = Reply::channel();
    let job = rig.job(rows, byte, reply);
    let at = job.inputs[0].as_ref().unwrap().data().as_ptr();
    (at, rig.scheduler.submit(job, answer).unwrap())
}

#[test]
fn a_job_of_its_own_is_copied_neither_on_its_way_in_nor_out() {
    let (pool, device) = cpu();
    let rig = rig(device, &Scheduling::Each, 3, Mode::Auto);
    let (sent, answer) = submit(&rig, 2, 7);
    let outputs = wait(answer).unwrap().outputs;
    assert_eq!(outputs[0].data().as_ptr(), sent);
    assert_eq!(pool.usage().fresh, 0);
    drop(outputs);
    rig.finish();
}

#[test]
fn jobs_that_are_joined_are_copied_once_into_one_slab_and_not_on_their_way_out() {
    let (pool, device) = cpu();
    let full_batch = Scheduling::Dynamic(DynamicBatching {
        preferred_batch_sizes: vec![],
        max_queue_delay: std::time::Duration::from_secs(3600),
    });
    let rig = rig(device, &full_batch, 3, Mode::Auto);
    // Eight rows fill a batch, so both jobs are in it.
    let (sent, pending): (Vec<_>, Vec<_>) =
        [submit(&rig, 3, 7), submit(&rig, 5, 8)].into_iter().unzip();
    let replies: Vec<_> = pending
        .into_iter()
        .map(|answer| wait(answer).unwrap().outputs.remove(0))
        .collect();
    let [first, second] = [&replies[0], &replies[1]].map(|reply| reply.data().as_ptr());
    assert_ne!(first, sent[0]);
    assert_eq!(first.align_offset(crate::memory::ALIGNMENT), 0);
    assert_eq!(second, first.wrapping_add(3 * 4), "not parts of one slab");
    assert_eq!(
        (&replies[0].data()[..], &replies[1].data()[..]),
        (&[7; 12][..], &[8; 20][..])
    );
    assert_eq!(pool.usage().fresh, 1);
    drop(replies);
    assert_eq!(pool.usage().leased_bytes, 0);
    rig.finish();
}

#[test]
fn a_device_with_memory_of_its_own_is_given_slabs_and_fills_slabs() {
    let pool = Pool::new(1 << 20);
    let device = Arc::new(crate::device::Simulated::new(
        crate::device::simulated::Costs::default(),
        pool.clone(),
    ));
    let rig = rig(device, &Scheduling::Each, 3, Mode::Stages);
    let (sent, answer) = submit(&rig, 2, 7);
    let outputs = wait(answer).unwrap().outputs;
    assert_ne!(outputs[0].data().as_ptr(), sent);
    assert_eq!(
        outputs[0]
            .data()
            .as_ptr()
            .align_offset(crate::memory::ALIGNMENT),
        0
    );
    // The slab that the copy to the device was made from is free again when the copy back needs one.
    assert_eq!(pool.usage().fresh, 1);
    drop(outputs);
    assert_eq!(pool.usage().leased_bytes, 0);
    rig.finish();
}
