//! Tensors of all kinds and shapes on their way to a disk and back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use forebay_spill::{Config, memory::Pool};
use tempfile::TempDir;

use super::*;

const KINDS: [Kind; 17] = [
    Kind::Uint8,
    Kind::Int8,
    Kind::Int16,
    Kind::Int,
    Kind::Int64,
    Kind::Half,
    Kind::Float,
    Kind::Double,
    Kind::ComplexHalf,
    Kind::ComplexFloat,
    Kind::ComplexDouble,
    Kind::Bool,
    Kind::BFloat16,
    Kind::Float8e5m2,
    Kind::Float8e4m3fn,
    Kind::Float8e5m2fnuz,
    Kind::Float8e4m3fnuz,
];

struct Rig {
    store: TensorStore,
    pool: Pool,
    _dir: TempDir,
}

fn rig(change: impl FnOnce(&mut Config)) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config {
        capacity_bytes: 64 << 20,
        segment_bytes: 8 << 20,
        min_free_bytes: 0,
        allow_tmpfs: true,
        ..Config::new([dir.path().into()])
    };
    change(&mut config);
    let pool = Pool::new(16 << 20);
    let store = Store::open(config, pool.clone()).unwrap();
    let store = TensorStore::new(store);
    let _dir = dir;
    Rig { store, pool, _dir }
}

/// A tensor of these bytes.
fn tensor(bytes: Vec<u8>, dims: &[i64], kind: Kind) -> Tensor {
    tensor_over(aligned(&bytes), dims, kind).unwrap()
}

fn aligned(bytes: &[u8]) -> HostBuf {
    let mut buffer = Pool::new(0).lease(bytes.len());
    buffer.copy_from_slice(bytes);
    buffer
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    TorchBytes::new(tensor).unwrap().as_ref().to_vec()
}

fn there_and_back(rig: &Rig, tensor: Tensor) -> Tensor {
    let parked = rig.store.blocking().offload_and_wait(tensor).unwrap();
    rig.store.blocking().onboard(parked).unwrap()
}

#[test]
fn every_kind_and_shape_comes_back() {
    let rig = rig(|_| ());
    for kind in KINDS {
        for dims in [&[][..], &[7], &[3, 5], &[2, 1, 3, 4], &[0], &[4, 0, 2]] {
            let elements = usize::try_from(dims.iter().product::<i64>()).unwrap();
            // Zeros and ones are bits of every kind, also of booleans.
            let content: Vec<u8> = [1, 0, 0, 1, 1]
                .into_iter()
                .cycle()
                .take(elements * kind.elt_size_in_bytes())
                .collect();
            let parked = rig
                .store
                .blocking()
                .offload_and_wait(tensor(content.clone(), dims, kind))
                .unwrap();
            assert_eq!((parked.dims(), parked.kind()), (dims, kind));
            assert_eq!(parked.parked().len(), content.len());
            let read = rig.store.blocking().read(&parked).unwrap();
            let back = rig.store.blocking().onboard(parked).unwrap();
            for back in [read, back] {
                assert_eq!((back.size(), back.kind()), (dims.to_vec(), kind));
                assert_eq!(bytes(&back), content);
            }
        }
    }
    assert_eq!(rig.store.store().stats().used_bytes, 0);
}

#[test]
fn the_bits_of_a_nan_are_kept() {
    let rig = rig(|_| ());
    let nans = [0x7fc0_0000_u32, 0x7f80_0001, 0xffc1_2345, 0x8000_0000];
    let content: Vec<u8> = nans.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let back = there_and_back(&rig, tensor(content.clone(), &[4], Kind::Float));
    assert_eq!(bytes(&back), content);
}

#[test]
fn a_view_leaves_its_base_as_it_was() {
    let rig = rig(|_| ());
    let mut base = Tensor::arange(1024, (Kind::Int64, Device::Cpu));
    let (before, memory) = (base.copy(), base.data_ptr());
    let parked = rig.store.offload(base.narrow(0, 512, 512)).unwrap();
    assert_eq!(parked.parked().len(), 512 * 8, "the view alone");
    rig.store.blocking().synchronize();
    assert_eq!((base.size(), base.data_ptr()), (vec![1024], memory));
    assert_eq!(base, before);
    let _zeros = base.zero_();
    let back = rig.store.blocking().onboard(parked).unwrap();
    assert_eq!(back, before.narrow(0, 512, 512));
}

#[test]
fn a_base_may_change_while_its_view_waits_to_be_written() {
    let rig = rig(|_| ());
    let mut base = Tensor::arange(1024, (Kind::Int64, Device::Cpu));
    let (layout, content) = dense(&base.narrow(0, 0, 512)).unwrap();
    let before = content.to_vec();
    let _zeros = base.zero_();
    assert!(content == before, "it has a copy");
    assert_eq!(layout.dims, [512]);
    let whole = rig.store.offload(base.shallow_clone()).unwrap();
    let _ones = base.fill_(1);
    let back = rig.store.blocking().onboard(whole).unwrap();
    assert_eq!(back, base.zeros_like());
}

#[test]
fn what_is_not_row_major_comes_back_so() {
    let rig = rig(|_| ());
    let base = Tensor::arange(24, (Kind::Float, Device::Cpu)).view([2, 3, 4]);
    let every_second = base.slice(2, 0, 4, 2);
    let expanded = Tensor::from_slice(&[1.0_f32, 2.0])
        .view([2, 1])
        .expand([2, 5], false);
    let views = [base.transpose(0, 2), every_second, expanded];
    let kept = views.each_ref().map(Tensor::copy);
    for (view, kept) in views.into_iter().zip(kept) {
        assert!(!view.is_contiguous());
        let back = there_and_back(&rig, view);
        assert!(back.is_contiguous());
        assert_eq!(back, kept);
    }
    assert_eq!(
        base.view([24]),
        Tensor::arange(24, (Kind::Float, Device::Cpu))
    );
}

#[test]
fn marks_of_a_view_are_in_the_bytes() {
    let rig = rig(|_| ());
    let content: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0]
        .iter()
        .flat_map(|part| part.to_le_bytes())
        .collect();
    let numbers = tensor(content, &[2], Kind::ComplexFloat);
    let conjugate = numbers.conj();
    assert!(conjugate.is_conj());
    let imaginary = conjugate.imag();
    assert!(imaginary.is_neg());
    let back = there_and_back(&rig, imaginary);
    assert_eq!(back, Tensor::from_slice(&[-2.0_f32, -4.0]));
    let back = there_and_back(&rig, conjugate);
    assert_eq!(back.imag(), Tensor::from_slice(&[-2.0_f32, -4.0]));
}

#[tokio::test]
async fn more_than_1024_tensors_come_back_in_order() {
    let rig = rig(|_| ());
    let some = |n: i64| Tensor::full([64 + n % 7], n, (Kind::Int64, Device::Cpu));
    let parked = rig.store.offload_all((0..1500).map(some).collect());
    let parked: Vec<_> = parked.into_iter().map(Result::unwrap).collect();
    rig.store.synchronize().await;
    let back = rig.store.onboard_all(parked, Class::Prefetch);
    assert_eq!(back.len(), 1500);
    for (n, back) in (0..).zip(back) {
        assert_eq!(back.await.unwrap(), some(n));
    }
    assert!(rig.store.store().stats().written.operations < 20);
}

struct Counted(HostBuf, Arc<AtomicUsize>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn memory_goes_when_it_is_written_and_comes_back_without_a_copy() {
    let rig = rig(|_| ());
    let dropped = Arc::<AtomicUsize>::default();
    let owner = Counted(aligned(&[3; 8192]), Arc::clone(&dropped));
    let whole = tensor_over(owner, &[8192], Kind::Uint8).unwrap();
    let parked = rig.store.blocking().offload_and_wait(whole).unwrap();
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
    let back = rig.store.blocking().onboard(parked).unwrap();
    assert_eq!(rig.pool.usage().leased_bytes, 8192);
    let view = back.narrow(0, 100, 1);
    drop(back);
    assert_eq!(view.int64_value(&[0]), 3, "a view keeps the memory");
    drop(view);
    assert_eq!(rig.pool.usage().leased_bytes, 0);
}

#[test]
fn what_a_store_cannot_hold_comes_back_with_the_reason() {
    let rig = rig(|_| ());
    let dense = Tensor::eye(4, (Kind::Float, Device::Cpu));
    let refuse = |tensor: Tensor| rig.store.offload(tensor).unwrap_err().error;
    let quantised = dense.quantize_per_tensor(0.5, 0, Kind::QInt8);
    assert!(matches!(refuse(quantised), TensorError::Quantised(_)));
    let sparse = dense.to_sparse_sparse_dim(2);
    assert!(matches!(refuse(sparse), TensorError::NotDense));
    let rows = dense.to_sparse_csr(None::<i64>);
    assert!(matches!(refuse(rows), TensorError::Torch(_)));
    let nothing = refuse(Tensor::new());
    assert!(matches!(nothing, TensorError::Torch(_)), "{nothing}");
}

#[test]
fn a_full_store_gives_the_tensors_back() {
    let rig = rig(|config| config.capacity_bytes = 8192);
    let some = |n: i64| Tensor::full([1024], n, (Kind::Int64, Device::Cpu));
    let sparse = some(9).to_sparse_sparse_dim(1);
    let mut all = rig.store.offload_all(vec![some(1), sparse, some(2)]);
    let refused = all.pop().unwrap().unwrap_err();
    assert_eq!(refused.tensor, some(2));
    let TensorError::Store(error) = refused.error else {
        panic!("{}", refused.error);
    };
    assert_eq!(error.kind(), "too_large");
    let refused = all.pop().unwrap().unwrap_err();
    assert!(matches!(refused.error, TensorError::NotDense));
    let back = rig.store.blocking().onboard(all.pop().unwrap().unwrap());
    assert_eq!(back.unwrap(), some(1));
}

#[test]
fn a_gradient_does_not_hold_up_a_tensor() {
    let rig = rig(|_| ());
    let leaf = Tensor::from_slice(&[1.0_f32, 2.0]).set_requires_grad(true);
    let result = &leaf * 3.0;
    let back = there_and_back(&rig, result);
    assert!(!back.requires_grad());
    assert_eq!(back, Tensor::from_slice(&[3.0_f32, 6.0]));
}
