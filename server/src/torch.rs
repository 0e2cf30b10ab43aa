//! What libtorch can do and the tch crate does not offer: TorchScript modules that are frozen and
//! tell their schema, AOTInductor packages, tensors over memory that Rust owns, and the memory of a
//! tensor as bytes.
//!
//! Invariant: nothing outside this module needs `unsafe` for libtorch, and a tensor's memory lives
//! as long as anything, also within libtorch, refers to it.

mod aoti;
mod bytes;
mod device_tensor;
mod failure;
mod ffi;
mod module;
mod parked;

pub(crate) use aoti::{Package, RunError};
pub use bytes::TorchBytes;
pub(crate) use bytes::{datatype, kind};
pub use device_tensor::DeviceTensor;
pub(crate) use failure::{Failure, classify, thrown};
pub(crate) use ffi::{is_shared, leave, scalar_type, specialise_graphs, tensor_over, trim};
pub(crate) use module::{Argument, Form, Module, Output, SharedModule};
pub use parked::{
    BlockingTensors, LostTensor, ParkedTensor, RefusedTensor, TensorError, TensorStore,
};

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tch::{CModule, Kind, Tensor};

    use super::*;
    use crate::device::Location;

    struct Counted(Vec<u8>, Arc<AtomicUsize>);

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
    fn memory_lives_as_long_as_a_view_of_it_and_is_dropped_once() {
        let dropped = Arc::<AtomicUsize>::default();
        let owner = Counted(vec![1, 2, 3, 4], Arc::clone(&dropped));
        let tensor = tensor_over(owner, &[2, 2], Kind::Uint8).unwrap();
        let view = tensor.f_select(0, 1).unwrap();
        drop(tensor);
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
        assert_eq!(TorchBytes::new(&view).unwrap().as_ref(), [3, 4]);
        drop(view);
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn bytes_are_those_of_the_numbers_though_a_mark_makes_them_negative() {
        let parts = |numbers: &[f32]| Tensor::from_slice(numbers);
        let imaginary = Tensor::complex(&parts(&[1.0]), &parts(&[2.0]))
            .conj()
            .imag();
        // Of a single number the stride does not count.
        assert!(imaginary.is_neg() && imaginary.is_contiguous());
        let bytes = TorchBytes::new(&imaginary).unwrap();
        assert_eq!(bytes.as_ref(), (-2.0_f32).to_le_bytes());
        let plain = parts(&[3.0, 4.0]);
        let bytes = TorchBytes::new(&plain).unwrap();
        assert_eq!(bytes.as_ref().as_ptr(), plain.data_ptr().cast::<u8>());
    }

    #[test]
    fn a_view_of_little_of_its_memory_counts_as_shared_though_nothing_else_refers_to_it() {
        let rows = |rows: i64| {
            let whole = Tensor::zeros([8, 4], (Kind::Float, tch::Device::Cpu));
            whole.detach().narrow(0, 0, rows).detach()
        };
        assert!(is_shared(&rows(3)));
        assert!(!is_shared(&rows(4)) && !is_shared(&rows(8)));
    }

    #[test]
    fn memory_that_is_not_the_tensor_is_refused_and_dropped() {
        for dims in [&[5][..], &[2], &[-1], &[i64::MAX, i64::MAX]] {
            let dropped = Arc::<AtomicUsize>::default();
            let owner = Counted(vec![0; 4], Arc::clone(&dropped));
            assert!(tensor_over(owner, dims, Kind::Uint8).is_err());
            assert_eq!(dropped.load(Ordering::Relaxed), 1);
        }
    }

    #[test]
    fn only_a_module_whose_passes_change_nothing_is_shared() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.pt");
        for counts in [false, true] {
            let zeros = || Tensor::zeros([2], (Kind::Float, tch::Device::Cpu));
            let calls = zeros();
            // Its answers do not tell whether it counts them.
            let module =
                CModule::create_by_tracing("Counts", "forward", &[zeros()], &mut |inputs| {
                    let doubled = &inputs[0] * 2.0;
                    if !counts {
                        return vec![doubled + &calls];
                    }
                    let count = calls.shallow_clone().g_add_scalar_(1.0);
                    vec![doubled + count * 0.0]
                });
            module.unwrap().save(&file).unwrap();
            let shared = |form| Module::load(&file, form, Location::Host).unwrap().share();
            assert_eq!(shared(Form::Saved).is_err(), counts);
            assert_eq!(shared(Form::Frozen).is_err(), counts);
            assert_eq!(shared(Form::Optimized).is_err(), counts);
            let saved = Module::load(&file, Form::Saved, Location::Host).unwrap();
            for form in [Form::Frozen, Form::Optimized] {
                assert_eq!(saved.in_form(form).is_none(), counts);
            }
        }
    }

    /// Returns the memory of this process, in MiB.
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.unwrap().parse::<usize>().unwrap() / 1024
    }

    #[test]
    fn a_form_takes_its_constants_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.pt");
        let ones = |dims: [i64; 2]| Tensor::ones(dims, (Kind::Float, tch::Device::Cpu));
        let (row, column) = (ones([1, 4096]), ones([4096, 1]));
        // Freezing works out the product, of 64 MiB.
        let trace = &mut |inputs: &[Tensor]| vec![&inputs[0] + &row * &column];
        let module = CModule::create_by_tracing("Adds", "forward", &[ones([1, 1])], trace);
        module.unwrap().save(&file).unwrap();
        drop((row, column));
        let before = resident();
        let saved = Module::load(&file, Form::Saved, Location::Host).unwrap();
        assert!(
            resident() < before + 32,
            "the saved form holds what was folded to look at it"
        );
        for form in [Form::Frozen, Form::Optimized] {
            let made = saved.in_form(form).unwrap().unwrap();
            assert!(resident() > before + 48);
            drop(made);
            assert!(resident() < before + 32, "{form}");
        }
    }
}
