//! `spill`: the store of tensors against `fio`, with the same block size and depth on the same file
//! system, and small tensors against one file for each.
//!
//! Both write to files that were allocated and written before. Each ratio is of two passes of the
//! same round; rounds go on where the median lies too near its limit.

#[cfg(target_os = "linux")]
mod rounds;

fn main() -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    rounds::run()?;
    Ok(())
}
