//! Calls to infer, past the router.
//!
//! A router finds a service by a map of paths, puts what it found into the request, and boxes service,
//! body and answer on the way. Nearly all calls go to one service, which needs none of it.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::Either;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tonic::{body::Body, codegen::StdError, server::NamedService, service::Routes};
use tower_service::Service;

/// A service whose calls need no router, and the router of the others.
#[derive(Debug, Clone)]
pub(super) struct Direct<S> {
    service: S,
    others: Routes,
}

impl<S> Direct<S> {
    /// Routes calls to `service` by its name, and all others by `others`.
    pub(super) fn new(service: S, others: Routes) -> Self {
        Self { service, others }
    }
}

/// Returns whether `path` is `/service/method`, of this service.
fn is_of<S: NamedService>(path: &str) -> bool {
    path.strip_prefix('/')
        .and_then(|path| path.strip_prefix(S::NAME))
        .is_some_and(|method| method.starts_with('/'))
}

impl<S, B> Service<Request<B>> for Direct<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible> + NamedService,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, <Routes as Service<Request<B>>>::Future>;

    /// Both are always ready.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if is_of::<S>(request.uri().path()) {
            Either::Left(self.service.call(request))
        } else {
            Either::Right(self.others.call(request))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named;

    impl NamedService for Named {
        const NAME: &'static str = "a.Service";
    }

    #[test]
    fn only_paths_of_the_whole_name_are_of_a_service() {
        assert!(is_of::<Named>("/a.Service/Method"));
        assert!(is_of::<Named>("/a.Service/"));
        for path in [
            "/a.Service",
            "/a.ServiceMore/Method",
            "a.Service/Method",
            "/b/a.Service/M",
            "",
        ] {
            assert!(!is_of::<Named>(path), "{path}");
        }
    }
}
