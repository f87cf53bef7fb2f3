//! From a tonic request to caller and message, and from a result to tonic's answer.

use tonic::{Request, Response, Status};

use super::errors;
use crate::service::{Caller, Problem, ServiceError};

/// The caller, as the front found it, and the message.
pub(super) fn open<M>(request: Request<M>) -> Result<(Caller, M), Status> {
    let (_, mut extensions, message) = request.into_parts();
    // The front puts it there; a route that it does not stand before must not be served.
    let caller = extensions.remove::<Caller>().ok_or_else(|| errors::of_problem(&Problem::Internal, ""))?;
    Ok((caller, message))
}

/// In the metadata of an answer: from when on the change is in force on every replica (RFC 3339). Where it is missing, it
/// is in force everywhere already.
pub(super) const IN_FORCE_FROM: &str = "strongroom-in-force-from";

/// The answer, or the status of the error.
pub(super) fn answer<M>(caller: &Caller, result: Result<M, ServiceError>) -> Result<Response<M>, Status> {
    let mut answer = result.map(Response::new).map_err(|error| errors::status(&error, &caller.request))?;
    if let Some(from) = caller.in_force.from().and_then(|from| from.to_string().parse().ok()) {
        answer.metadata_mut().insert(IN_FORCE_FROM, from);
    }
    Ok(answer)
}

/// Implements a service of the contract by the functions of the same names in the module that calls it:
/// `async fn name(service: &Arc<Service>, caller: &Caller, message: Request) -> Result<Response, ServiceError>`.
/// What is not of this form stands in a second block, as it is.
macro_rules! serve {
    ($contract:path { $($name:ident($request:ident) -> $response:ident;)* } $({ $($rest:tt)* })?) => {
        #[tonic::async_trait]
        impl $contract for super::Face {
            $(
                async fn $name(
                    &self,
                    request: tonic::Request<strongroom_proto::v1::$request>,
                ) -> Result<tonic::Response<strongroom_proto::v1::$response>, tonic::Status> {
                    let (caller, message) = super::call::open(request)?;
                    let result = $name(&self.service, &caller, message).await;
                    super::call::answer(&caller, result)
                }
            )*
            $($($rest)*)?
        }
    };
}
pub(super) use serve;
