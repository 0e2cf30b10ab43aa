//! Reads that share an operation lie side by side on the disk of the thread that does it.

use super::*;

fn groups(core: &mut Core, dir: usize) -> Vec<Vec<u64>> {
    let mut groups = Vec::new();
    while let Some(Start::Fetch(group)) = core.pick(dir, room()) {
        groups.push(group.iter().map(|one| one.entry).collect());
    }
    groups
}

#[test]
fn neighbours_on_another_disk_are_read_by_its_own_thread() {
    let mut core = bare(2);
    core.grown(1, Ok(1 << 30), Instant::now());
    put_out(&mut core, 0);
    let ids = [(); 2].map(|()| admit(&mut core, 4096));
    assert!(ids.iter().all(|id| core.entries[id].home == 0));
    let Some(Start::Write { parts, .. }) = core.pick(1, room()) else {
        panic!("the second disk is in use");
    };
    parts.into_iter().for_each(|part| core.written(part));
    let _answers = ids.map(|id| core.ask(id, Class::Demand, true));
    let none: [Vec<u64>; 0] = [];
    assert_eq!(groups(&mut core, 0), none);
    assert_eq!(groups(&mut core, 1), [ids.to_vec()]);
}

#[test]
fn a_scattered_tensor_is_read_without_the_neighbour_of_its_end() {
    let mut core = bare(1);
    core.grown(0, Ok(6 * 4096), Instant::now());
    no_more_room(&mut core, 0);
    let ids = parked(&mut core, 6, 4096);
    [1, 3].into_iter().for_each(|i| core.abandon(ids[i]));
    let scattered = parked(&mut core, 1, 8192)[0];
    assert_eq!(core.entries[&scattered].blocks.len(), 2);
    let asked = [scattered, ids[4], ids[5]];
    let _answers = asked.map(|id| core.ask(id, Class::Demand, true));
    assert_eq!(
        groups(&mut core, 0),
        [vec![scattered], vec![ids[4], ids[5]]]
    );
}
