//! Takes the inputs of a request to disk, or its outputs, and brings them back.
//!
//! Invariant: a request is either wholly accepted by the store or keeps its inputs; its bytes of the
//! budget are given back when all of it is written.

use std::{future::Future, time::Instant};

use bytes::Bytes;
use forebay_proto::Tensor;
use forebay_spill::{Class, Data, Error, Parked, Store};
use futures_util::future::{Either, OptionFuture, join_all, ready};

use super::{Cargo, Input, Limits, Parking, Stays, Stowed, Unwritten};
use crate::admission::{Budget, Permit};

/// Inputs that the store took.
pub(crate) struct Accepted<F> {
    /// What the request keeps of them.
    pub(crate) stowed: Stowed,
    /// Bytes of the budget that are given back when they are written.
    pub(crate) bytes: u64,
    /// Ends when they are, or cannot be.
    pub(crate) written: F,
}

/// Hands the large ones of the inputs to the store.
pub(crate) fn park(
    store: &Store,
    limits: &Limits,
    cargo: Cargo,
) -> Result<Accepted<impl Future<Output = Result<(), Error>> + Send + use<>>, (Error, Cargo)> {
    let inputs = cargo.inputs.iter().flatten();
    let large = inputs.filter(|one| limits.is_large(one));
    let data = large.map(|tensor| Data::from(tensor.data().clone()));
    // All or none: of inputs that stay nothing may be read meanwhile, as the request may run at once, and
    // a pass may write to them.
    let parked = match store.offload_together(data.collect()) {
        Ok(parked) => parked,
        Err((error, _)) => return Err((error, cargo)),
    };
    let Cargo { inputs, mut permit } = cargo;
    let written = join_all(parked.iter().map(Parked::settled).collect::<Vec<_>>());
    let mut parked = parked.into_iter();
    let mut part = |tensor: Tensor| match limits.is_large(&tensor).then(|| parked.next()).flatten()
    {
        Some(parked) => {
            let (name, datatype, shape, _) = tensor.into_parts();
            Input::Parked {
                name,
                datatype,
                shape,
                parked,
            }
        }
        // A slice would keep the memory of its whole message.
        None => {
            let own = Bytes::copy_from_slice(tensor.data());
            Input::Kept(tensor.with_data(own))
        }
    };
    let inputs: Vec<Option<Input>> = inputs
        .into_iter()
        .map(|input| input.map(&mut part))
        .collect();
    let unwritten = Unwritten::default();
    let mut stowed = Stowed {
        inputs,
        permit: None,
        unwritten: unwritten.clone(),
        since: Instant::now(),
    };
    let kept = stowed.kept_bytes();
    stowed.permit = permit.as_mut().map(|permit| permit.split(kept));
    let bytes = permit.as_ref().map_or(0, Permit::bytes);
    let written = async move {
        let outcome: Result<(), Error> = written.await.into_iter().collect();
        if let (Err(error), Some(permit)) = (&outcome, permit)
            && !matches!(error, Error::Withdrawn)
        {
            unwritten.put(permit);
        }
        outcome
    };
    Ok(Accepted {
        stowed,
        bytes,
        written,
    })
}

/// Brings inputs back, at the cost of `budget`.
pub(crate) fn onboard(
    store: &Store,
    budget: &Budget,
    class: Class,
    stowed: Stowed,
) -> impl Future<Output = Result<(Cargo, Parking), Error>> + Send + use<> {
    let fetched = Instant::now();
    let bytes = stowed.parked_bytes();
    let Stowed {
        inputs,
        permit: kept,
        unwritten,
        since: from,
    } = stowed;
    let mut permit = unwritten.take().unwrap_or_else(|| budget.charge(bytes));
    if let Some(kept) = kept {
        permit.merge(kept);
    }
    let arrival = |input| match input {
        Input::Kept(tensor) => Either::Left(ready(Ok(tensor))),
        Input::Parked {
            name,
            datatype,
            shape,
            parked,
        } => {
            let arrival = store.onboard(parked, class);
            Either::Right(async move {
                let buffer = arrival.await.map_err(|lost| lost.error)?;
                let tensor = Tensor::new(name, datatype, shape, Bytes::from_owner(buffer));
                Ok(tensor.expect("it comes back with as many bytes as it left"))
            })
        }
    };
    let arrivals = inputs
        .into_iter()
        .map(|input| OptionFuture::from(input.map(arrival)));
    let arrivals = join_all(arrivals.collect::<Vec<_>>());
    async move {
        let inputs = arrivals.await.into_iter().map(Option::transpose);
        let cargo = Cargo {
            inputs: inputs.collect::<Result<_, Error>>()?,
            permit: Some(permit),
        };
        let until = Instant::now();
        Ok((
            cargo,
            Parking {
                from,
                fetched,
                until,
                earlier: Stays::default(),
            },
        ))
    }
}
