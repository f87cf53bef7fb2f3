//! The command line's client: [`strongroom_client::Client`] and what is known about the caller, so that an
//! error can say what to do. Prints nothing and knows no command.

use strongroom_client::Error;

use super::failure::{self, Action, Caller, Failure};

/// A connection. Cheap to clone: clones share it.
#[derive(Clone)]
pub(super) struct Client {
    /// The calls.
    pub(super) api: strongroom_client::Client,
    caller: Caller,
}

impl Client {
    /// A connection of this caller.
    pub(super) const fn new(api: strongroom_client::Client, caller: Caller) -> Self {
        Self { api, caller }
    }

    /// Makes a call, and says in words what went wrong with it.
    pub(super) async fn call<A>(
        &self,
        action: &Action,
        call: impl Future<Output = Result<A, Error>>,
    ) -> Result<A, Failure> {
        call.await.map_err(|error| self.explain(&error, action))
    }

    /// Says in words what went wrong.
    pub(super) fn explain(&self, error: &Error, action: &Action) -> Failure {
        failure::of(error, action, &self.caller)
    }
}
