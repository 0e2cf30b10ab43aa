//! Reflection, v1 and v1alpha, so that tools need no `.proto` files.

use tonic::service::Routes;
use tonic_reflection::server::Builder;

/// Adds a service to the routes.
pub(super) type Add = Box<dyn FnOnce(Routes) -> Routes>;

/// Returns the two versions of the reflection service.
pub(super) fn reflection() -> Vec<Add> {
    let builder = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(forebay_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut services: Vec<Add> = Vec::with_capacity(2);
    match (builder().build_v1(), builder().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => {
            services.push(Box::new(|routes| routes.add_service(v1)));
            services.push(Box::new(|routes| routes.add_service(v1alpha)));
        }
        (Err(error), _) | (_, Err(error)) => {
            // The descriptors are compiled in, so this would show in the first test.
            tracing::error!(%error, "reflection is off");
        }
    }
    services
}
