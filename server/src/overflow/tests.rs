use bytes::Bytes;
use bytesize::ByteSize;
use forebay_proto::{DataType, Shape, Tensor};
use tempfile::TempDir;

use super::*;
use crate::tensor::HostData;

const LEN: usize = 128 << 10;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn unread_outputs_leave_memory_though_nothing_else_happens() {
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
    let store = Overflow::open(&config, 1 << 20, Pool::new(0))
        .unwrap()
        .unwrap();
    let budget = Budget::new("host", 1 << 20);
    let overflow = Overflow::new(store, &config, 1 << 20, budget.clone(), Vec::new());
    let (shelf, end) = (Arc::clone(overflow.shelf()), CancellationToken::new());
    let running = tokio::spawn(overflow.run(end.clone(), watch::channel(None).0));

    let put = |byte: u8| {
        let charged = budget.charge(LEN as u64);
        let data = HostData::Wire(Bytes::from(vec![byte; LEN])).into_bytes(charged);
        let shape = Shape::new(vec![i64::try_from(LEN).unwrap()]).unwrap();
        let output = Tensor::new("y", DataType::Uint8, shape, data).unwrap();
        shelf.put(vec![output], Instant::now()).unwrap()
    };
    let claims = [1, 2, 3].map(put);
    tokio::time::timeout(LONG, budget.drained()).await.unwrap();
    for (byte, claim) in (1..).zip(claims) {
        let outputs = claim.redeem().await.unwrap();
        assert!(outputs[0].data().iter().all(|one| *one == byte));
    }
    end.cancel();
    drop((running.await.unwrap(), shelf));
}
