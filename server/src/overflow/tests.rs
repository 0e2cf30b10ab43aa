use bytes::Bytes;
use bytesize::ByteSize;
use forebay_proto::{DataType, Shape, Tensor};
use tempfile::TempDir;

use super::*;
use crate::{
    request::{Answer, Reply, Timings},
    tensor::HostData,
};

const LEN: usize = 128 << 10;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

/// A budget whose mark is nothing, and the task that relieves it.
struct Rig {
    shelf: Arc<Shelf>,
    budget: Budget,
    end: CancellationToken,
    running: tokio::task::JoinHandle<Store>,
    _folder: TempDir,
}

impl Rig {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let config = Config {
            dirs: vec![folder.path().into()],
            capacity: ByteSize::mib(2),
            min_free: ByteSize::b(0),
            high_percent: 0,
            low_percent: 0,
            allow_tmpfs: true,
            ..Config::default()
        };
        let store = Overflow::open(&config, 1 << 20, Pool::new(0)).unwrap();
        let budget = Budget::new("host", 1 << 20);
        let overflow = Overflow::new(store.unwrap(), &config, budget.clone(), Vec::new());
        let (shelf, end) = (Arc::clone(overflow.shelf()), CancellationToken::new());
        let running = tokio::spawn(overflow.run(end.clone(), watch::channel(None).0));
        Self {
            shelf,
            budget,
            end,
            running,
            _folder: folder,
        }
    }

    fn tensor(&self, name: &str, byte: u8) -> Tensor {
        let charged = self.budget.charge(LEN as u64);
        let data = HostData::Wire(Bytes::from(vec![byte; LEN])).into_bytes(charged);
        let shape = Shape::new(vec![i64::try_from(LEN).unwrap()]).unwrap();
        Tensor::new(name, DataType::Uint8, shape, data).unwrap()
    }

    async fn end(self) {
        self.end.cancel();
        drop((self.running.await.unwrap(), self.shelf));
    }
}

#[tokio::test]
async fn unread_outputs_leave_memory_though_nothing_else_happens() {
    let rig = Rig::start();
    let put = |byte| rig.shelf.put(vec![rig.tensor("y", byte)], Instant::now());
    let claims = [1, 2, 3].map(|byte| put(byte).unwrap());
    let drained = tokio::time::timeout(LONG, rig.budget.drained());
    drained.await.unwrap();
    for (byte, claim) in (1..).zip(claims) {
        let outputs = claim.redeem().await.unwrap();
        assert!(outputs[0].data().iter().all(|one| *one == byte));
    }
    rig.end().await;
}

#[tokio::test]
async fn outputs_that_nobody_asked_for_take_neither_memory_nor_disk() {
    let rig = Rig::start();
    let outputs = ["a", "b", "c"].map(|name| rig.tensor(name, 7)).into();
    let (reply, answer) = Reply::channel();
    let reply = reply
        .picking(vec!["c".to_owned(), "a".to_owned()])
        .shelving(Some(Arc::clone(&rig.shelf)));
    reply.send(Ok(Answer::new(
        outputs,
        Timings::new(Instant::now().into_std()),
    )));
    assert_eq!(rig.budget.used(), 2 * LEN as u64);
    let claim = answer.await.unwrap().unwrap().claim.unwrap();
    let outputs = claim.redeem().await.unwrap();
    let names: Vec<&str> = outputs.iter().map(Tensor::name).collect();
    assert_eq!(names, ["c", "a"]);
    drop(outputs);
    rig.end().await;
}
